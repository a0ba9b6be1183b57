"""Tiles of products with few rows, whose time is that of reading the other operand (weights, while decoding) once.

All rows are in one tile, so that every weight is read by one program. What counts is how many bytes are on their way at
any moment: memory that answers after ``LATENCY`` gives its full bandwidth only to so many. They come from all programs
together, each of which loads ``num_stages - 1`` steps ahead.
"""

from __future__ import annotations

from math import ceil

from rooftile.passes.regions.contractions import SMALLEST_DOT
from rooftile.passes.regions.sizes import next_power
from rooftile.passes.schedules.dots import MOST_OF_PROCESSORS, Dots, DotTiles
from rooftile.passes.schedules.estimate import LATENCY
from rooftile.target import Target

FEW = 64  # rows
COLUMNS = (128, 64, 32, 16)
AHEAD = 1.3  # times what keeps memory busy: not all programs are at the same place
MOST_STAGES = 6
LEAST_STAGES = 3
MOST_BESIDE = 2  # programs that share a multiprocessor's memory; of more, the others wait
ELEMENTS = 4096  # of a tile that is multiplied and summed: four loads of 16 bytes for each thread of four warps
DEPTH = 4096  # of such a tile: rows of 8 KB
ACROSS = 64  # rows of such a tile where they are what is contiguous: 128 bytes of each position in their sums
# Of a tile's results each warp has some, 16 by 8 at least: further warps only multiply the same again. (16 x 2048 x
# 8192 on an H200, in tiles of 16 x 16: 19.7 us with four warps, 16.3 with two.)
RESULTS_OF_A_WARP = 16 * 8
WARPS = 4
PROGRAMS = 32  # of such tiles for each multiprocessor, so that all that fit on one at a time have some


def is_skinny(target: Target, dots: Dots) -> bool:
    """Whether a product has so few rows, or columns, that one tile holds them."""
    return target.kind == "cuda" and dots.bytes <= 2 and min(dots.m, dots.n) <= FEW


def skinny_tiles(target: Target, dots: Dots) -> DotTiles:
    """The first choice for a product with few rows, or with few columns."""
    few, many = sorted((dots.m, dots.n))
    rows, columns = next_power(max(few, SMALLEST_DOT)), _columns(target, dots, many)
    programs = _programs(dots, many, columns)
    beside = min(-(-programs // target.sm_count), MOST_BESIDE)
    room = target.shared_memory // beside
    deepest = 256 if rows + columns <= FEW else 128
    if dots.computed:  # every warp holds all of its rows
        deepest = 128 if rows <= SMALLEST_DOT else 64
    for depth in (deepest, deepest // 2):
        step = columns * dots.accumulators * depth * dots.bytes
        fitting = room // (step + rows * depth * dots.bytes)
        if fitting >= LEAST_STAGES:
            break
    at_once = min(programs, beside * target.sm_count)
    wanted = 1 + ceil(AHEAD * target.bandwidth * LATENCY / (at_once * step))
    m, n = (rows, columns) if dots.m <= dots.n else (columns, rows)
    warps = warps_for(rows, columns) if few > 1 and not dots.computed else WARPS
    return DotTiles(m, n, depth, warps, max(2, min(max(wanted, LEAST_STAGES), MOST_STAGES, fitting)))


def warps_for(rows: int, columns: int) -> int:
    """How many warps a tile of a product has work for."""
    return min(WARPS, rows * columns // RESULTS_OF_A_WARP)


def _columns(target: Target, dots: Dots, many: int) -> int:
    """As many as leave a program for nearly every multiprocessor; results that share a program share them."""
    widest = next_power(max(many, SMALLEST_DOT))
    widths = [max(SMALLEST_DOT, min(width // dots.accumulators, widest)) for width in COLUMNS]
    enough = MOST_OF_PROCESSORS * target.sm_count
    return next((width for width in widths if _programs(dots, many, width) >= enough), widths[-1])


def _programs(dots: Dots, many: int, columns: int) -> int:
    return dots.batch * -(-many // columns)


def vector_tiles(target: Target, rows: int, depth: int, *, across: bool) -> tuple[int, int]:
    """Rows and depth of a tile of a matrix that is multiplied by a vector, or of rows that are multiplied by rows of
    their own; there are ``rows`` of them, ``depth`` long. ``across``: it is the rows that are neighbours in memory."""
    if target.kind == "cpu":
        return 2**9, min(next_power(depth), 2**9)
    high = max(ACROSS if across else 1, ELEMENTS // min(next_power(depth), DEPTH))
    while high > (ACROSS // 2 if across else 1) and rows < high * PROGRAMS * target.sm_count:
        high //= 2
    return high, min(next_power(depth), ELEMENTS // high)
