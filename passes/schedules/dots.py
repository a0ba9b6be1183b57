"""The tiles of contractions on matrix units, and how they are run: a table of what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rooftile.passes.schedules.waves import LEAST_GAIN, best_pieces, expected_gain, waves
from rooftile.target import HOPPER, Target

MOST_EPILOGUE = 11  # more beside 128 registers of accumulators was seen to spill some
BARRIERS = 1024  # bytes of shared memory, at most, that a pipeline takes beside its tiles
# How much faster a multiprocessor multiplies in tiles of 128x256 than of 128x128 (8192x4096x14336 on an H100: 711 and
# 619 TFLOP/s).
LARGE_TILE_GAIN = 1.15
MOST_OF_PROCESSORS = 0.9  # fewer programs than this share of the multiprocessors leave some of the device idle
LEAST_PIECE = 64  # columns of a piece of a tile
FULL = 3  # tiles for each multiprocessor, so that those which are half empty even out
SMALL_TILES = ((32, 64), (32, 32), (32, 16))  # of fp32, for few results


@dataclass(frozen=True)
class DotTiles:
    """The largest tiles of a contraction on a kind of target, and the other fields of its schedule."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dots:
    """What decides the tiles of contractions that share a kernel.

    Operands of ``bytes`` an element, ``accumulators`` results at once, each ``m`` by ``n`` and ``batch`` times;
    ``computed``: an operand is computed, not loaded; ``epilogue``: what follows on an element of the result, as FLOPs
    and two for each load; ``epilogue_bytes``: what it loads and stores of one; ``blocks``: whether every operand is
    read in blocks that descriptors can carry; ``joined``: whether two results can be those of one product, side by
    side; ``segments``: how many groups of rows there are, each ``m`` long, that end where the data say, and
    ``blocks_of_groups`` the same as ``blocks`` for these; ``depth``: how many products are summed.
    """

    bytes: int
    accumulators: int
    m: int
    n: int
    batch: int
    computed: bool
    epilogue: int
    epilogue_bytes: int
    blocks: bool
    joined: bool
    segments: int
    blocks_of_groups: bool
    depth: int

    def tiles(self, tile_m: int, tile_n: int) -> int:
        """How many tiles the results take."""
        return self.batch * -(-self.m // tile_m) * -(-self.n // tile_n)

    def tail(self, tile_m: int, tile_n: int, target: Target) -> int:
        """In how many pieces the tiles of the last wave are to be run."""
        seconds, most = self.tile_seconds(tile_m, tile_n, target), tile_n * self.accumulators // LEAST_PIECE
        return best_pieces(self.tiles(tile_m, tile_n), target.sm_count, seconds, most)

    def waves(self, tile_m: int, tile_n: int, target: Target) -> float:
        """How many tiles a multiprocessor works through, those of the last wave being run so."""
        pieces, seconds = self.tail(tile_m, tile_n, target), self.tile_seconds(tile_m, tile_n, target)
        return waves(self.tiles(tile_m, tile_n), target.sm_count, pieces, seconds)

    def tile_seconds(self, tile_m: int, tile_n: int, target: Target) -> float:
        """What a tile takes at the least."""
        rate = target.matmul_rate("f16") / target.sm_count
        return 2 * tile_m * tile_n * self.accumulators * self.depth / rate

    def programs(self, tile_m: int, tile_n: int) -> int:
        """How many programs the results take; a tile that is half empty counts as half."""
        return self.batch * self.m * self.n // (tile_m * tile_n)


def dot_tiles(target: Target, dots: Dots) -> DotTiles:
    """First choice of tiles."""
    if target.kind == "cpu":
        return DotTiles(512, 512, 512, 4, 1)
    count = dots.accumulators
    if dots.bytes > 2:
        return _three_products(target, dots)
    if dots.blocks and target.arch == HOPPER:
        found = _one_tile_each(target, dots) or _persistent(target, dots)
        if found is not None:
            return found
    if (found := _counted(target, dots)) is not None:
        return found
    columns = 256 // count if dots.epilogue <= MOST_EPILOGUE and target.shared_memory > 200_000 else 128 // count
    if columns == 256 and dots.programs(128, 256) >= target.sm_count:
        return DotTiles(128, 256, 64, 8, 3)
    if 2 * dots.programs(128, 128) < target.sm_count:
        return DotTiles(64, 128 // min(count, 2), 64, 4, 3)
    # OLMoE's experts, 65536 rows in order on an H200: apart 1063 us by pointers, 1002 in blocks; joined 985.
    joined = dots.joined and target.arch == HOPPER and not dots.computed
    return DotTiles(128, min(128, columns), 64, 8, 3, {"descriptors": True, "joined": True} if joined else {})


def _three_products(target: Target, dots: Dots) -> DotTiles:
    """The choice for fp32, where both operands are split in two and share the registers with the accumulator: smaller
    tiles where larger ones leave multiprocessors without one. (2048x2048x2048 on an H200: 208 us; in tiles of 64x64
    247, in steps of 16 260.)"""
    count = dots.accumulators
    large = DotTiles(128, 64, 32, 4, 3) if count == 1 else DotTiles(64, 64 // count if count < 4 else 16, 32, 4, 3)
    smaller = (large, *(DotTiles(m, n, 32, 4, 3) for m, n in ((64, 64), *SMALL_TILES) if count == 1))
    return next((t for t in smaller if dots.tiles(t.m, t.n) >= MOST_OF_PROCESSORS * target.sm_count), smaller[-1])


def _one_tile_each(target: Target, dots: Dots) -> DotTiles | None:
    """The choice for operands in blocks and one accumulator where most multiprocessors have a tile and none has two: a
    persistent loop would have nothing to go on into (2048x2048x2048 with a residual on an H200: 30.5 us, by a loop over
    one tile 32.7), and the memory of a multiprocessor is that of one program (1024x2048x8192: 50 us in four stages, 66
    in three)."""
    if dots.accumulators > 1 or dots.epilogue > MOST_EPILOGUE:
        return None
    counts = {columns: dots.tiles(128, columns) for columns in (128, 256)}
    enough = MOST_OF_PROCESSORS * target.sm_count
    columns = next((c for c, count in counts.items() if enough <= count <= target.sm_count), None)
    return None if columns is None else DotTiles(128, columns, 64, 8, 4, {"descriptors": True})


def _persistent(target: Target, dots: Dots) -> DotTiles | None:
    """The choice for operands in blocks, one or two accumulators, and tiles for every multiprocessor.

    With two accumulators, a flattened loop was seen to be slow; one, which may hold the results of two products side
    by side, has its epilogue in pieces, so that a pipeline of four stages, which goes on from one tile into the next,
    fits beside it. (A gate and what it gates, 8192x4096x14336 on an H200: 3036 us as two products, 2747 as one, which
    the library takes for the product alone.)
    """
    run: dict[str, Any] = {"descriptors": True, "persistent": True}
    if dots.accumulators > 2 or dots.tiles(128, 128) < target.sm_count:
        return None
    products = dots.accumulators
    if dots.joined:
        run["joined"] = True
    if products == 1 or dots.joined:
        wide, narrow = (dots.waves(128, columns // products, target) for columns in (256, 128))
        columns = (256 if 2 * wide <= LARGE_TILE_GAIN * narrow else 128) // products
        run |= {"flatten": True, "tail": dots.tail(128, columns, target)}
        for stages, count in _pipelines(max(1, columns // 128), products, run["tail"]):
            tiles = DotTiles(128, columns, 64, 8, stages, run | {"epilogue": count})
            if _fits_registers(tiles, dots) and _shared_bytes(tiles, dots) <= target.shared_memory:
                return tiles
    pieces = 1 if dots.epilogue <= MOST_EPILOGUE else 2
    run = {"descriptors": True, "persistent": True, "joined": dots.joined, "epilogue": pieces}
    return DotTiles(128, 128, 64, 8, 3, run) if products == 2 else None


def _pipelines(pieces: int, products: int, tail: int) -> tuple[tuple[int, int], ...]:
    """Numbers of stages, each with one of an epilogue's ``pieces``, the best first.

    An epilogue that loads what it adds waits for each piece. With a residual on an H200, in four stages and four pieces
    and in three and two: 16384x2048x2048 222 and 209 us, 4096x4096x4096 193 and 189, 8192 cubed 1469 and 1430. The
    narrow tiles of a last wave in pieces need four stages: 4096x3584x18944 700 and 730.
    """
    finer = (4, 4 // products), (3, 4 // products)
    return ((4, pieces), *finer) if tail > 1 else ((4, pieces), (3, pieces), *finer)


def _counted(target: Target, dots: Dots) -> DotTiles | None:
    """The choice for products of groups of rows that end where the data say, with tiles enough for programs to take one
    after another: as many as have rows, which they count.

    OLMoE's experts on an H200: of 256 rows each, gate and up take 252 us and down 138, where a program for each tile
    took 276 and 154; of 1024, 875 and 433 instead of 932 and 475; of 128, 171 and 97 instead of 187 and 109. Mixtral's,
    of 1024: 3.12 and 1.59 ms instead of 3.27 and 1.61.
    """
    products = dots.accumulators
    if dots.segments == 1 or target.arch != HOPPER or dots.computed or not (dots.joined or products == 1):
        return None
    if not (dots.blocks_of_groups or dots.joined) or dots.programs(128, 256 // products) < FULL * target.sm_count:
        return None
    run = {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "joined": dots.joined}
    tiles, seconds = dots.tiles(128, 256 // products), dots.tile_seconds(128, 256 // products, target)
    run["tail"] = 2 if expected_gain(tiles, target.sm_count, 2, seconds) >= LEAST_GAIN else 1
    choices = (DotTiles(128, 256 // products, 64, 8, stages, run) for stages in (4, 3))
    return next(
        (c for c in choices if _fits_registers(c, dots) and _shared_bytes(c, dots) <= target.shared_memory), None
    )


def _fits_registers(tiles: DotTiles, dots: Dots) -> bool:
    """Whether the epilogue finds registers beside the accumulator. (A GELU, 16384x8192x2048 on an H200, spills none in
    two pieces, and takes 806 us; in four 788.)"""
    return dots.epilogue <= MOST_EPILOGUE or tiles.n // int(tiles.options["epilogue"]) <= 64


def _shared_bytes(tiles: DotTiles, dots: Dots) -> int:
    """Shared memory of a flattened loop: the operands in each stage, and what the epilogue moves of a piece."""
    swept = tiles.num_stages * tiles.k * (tiles.m + tiles.n * dots.accumulators) * dots.bytes
    piece = tiles.m * tiles.n // int(tiles.options["epilogue"])
    return swept + piece * dots.epilogue_bytes + BARRIERS
