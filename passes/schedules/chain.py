"""Roles and tiles of a chain of reductions: rows on the grid, one axis swept, the others whole."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.schedule import AxisRole, Role, Schedule
from rooftile.passes.masks.lengths import swept, together
from rooftile.passes.masks.phases import plan_phases
from rooftile.passes.regions.access import Access, Read, Space
from rooftile.passes.regions.contractions import (
    SMALLEST_DOT,
    contractions,
    loads_of_contractions,
    main_contraction,
    multiplied,
)
from rooftile.passes.regions.forms import MOST_WHOLE, Chain, Reason, Unschedulable, chain_form
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge, merge_freely
from rooftile.passes.schedules.blocks import is_block
from rooftile.passes.schedules.dots import MOST_OF_PROCESSORS
from rooftile.passes.schedules.rows import FEW_ROWS, gather_few_rows, side_by_side
from rooftile.target import HOPPER, Target

# A warpgroup takes 64 rows of a dot. With 8 warps and fewer rows than for two of them, Triton 3.6 gives wrong results
# or faults where one dot feeds another (seen on an H100 with 32 and 64 rows), so such programs get 4 at most.
ROWS_OF_TWO_WARPGROUPS = 128
NARROW = 64  # up to here heads are small enough for plain copies to keep up
DEPTH = 64  # what one step of a contraction inside another sweep sums
LONG_STEPS = 160_000  # bytes of shared memory that three steps over 128 keys and values take, and some
PRODUCTS_OF_A_SWEEP = 2  # what large tiles leave registers for: scores, and what they weigh
SHORTEST = 32  # steps of a sweep that are not halved
LEFT_OUT = 0.85  # of the positions swept: shorter steps that save no more take longer
SAMPLED = 32  # tiles that are looked at, at most about twice as many
CACHED = 0.5  # the share of the L2 cache that what a group of heads sweeps may take
MOST_PRODUCTS = 2**13  # that a program's registers hold beside what else it computes
MOST_SUMS = 192  # registers of a thread for the sums of products; the others are for what it computes of them


@dataclass(frozen=True)
class ChainTiles:
    """The largest tiles of a chain, rows and steps of the sweep, and the launch options that go with them.

    With ``parts`` a program has so many tiles of rows, which share what a step loads, and it computes them in turns:
    while one waits for its products, another's exponentials are under way.
    """

    rows: int
    step: int
    num_warps: int
    num_stages: int
    descriptors: bool = False
    parts: int = 1


def schedule_chain(body: Graph, space: Space, access: Access, target: Target, *, alone: bool = False) -> Schedule:
    """The first choice of schedule for a region in the chain form; ``alone``: for programs with one tile of rows."""
    before = space
    space, access = gather_few_rows(body, space, access)
    chain = _chain(access)
    space, access, _ = merge_freely(body, space, access, list(chain.row))
    space, access = _one_axis_per_sweep(body, space, access)
    chain = _chain(access)
    row = max(chain.row, key=lambda a: likely(access.axes[a]), default="")
    whole = {a: max(SMALLEST_DOT, next_power(likely(access.axes[a]))) for a in chain.whole}
    rows = likely(access.axes[row]) if row else 1
    choices = _choices(access, target, rows, max(whole.values(), default=1), bool(_nested(access, chain)))
    first = next(c for c in choices if c.parts == 1 or (not alone and _fills(c, chain, access, row, target)))
    if first.parts > 1:
        space, access, row = side_by_side(body, space, access, row, first.parts)
        chain = _chain(access)
    tiles = dict.fromkeys(chain.grid, 1) | whole
    steps = {a: DEPTH if a in _nested(access, chain) and target.kind != "cpu" else first.step for a in chain.loops}
    tiles |= {a: min(step, max(SMALLEST_DOT, next_power(likely(access.axes[a])))) for a, step in steps.items()}
    if row:
        tiles[row] = min(first.rows, max(SMALLEST_DOT, next_power(rows)))
    if rows > FEW_ROWS and target.kind != "cpu":
        tiles |= {a: _short(access, a, tiles[a], row, tiles[row]) for a in set(chain.loops) - _nested(access, chain)}
    _fit_products(access, tiles, [a for a in (row, *chain.loops) if a], target)
    warps = first.num_warps if tiles.get(row, 1) >= ROWS_OF_TWO_WARPGROUPS else min(4, first.num_warps)
    _hold_sums(access, chain, tiles, 32 * warps, target)
    named: tuple[tuple[Role, tuple[str, ...]], ...] = (
        ("grid", chain.grid),
        ("loop", chain.loops),
        ("whole", chain.whole),
    )
    parts = tuple(AxisRole(a, space.leaves[a], "parts", first.parts) for a in space.parts if a not in before.parts)
    axes = (*parts, *(AxisRole(a, access.axes[a], role, tiles[a]) for role, names in named for a in names))
    grid, group = _turns(access, chain, row, target)
    schedule = Schedule(axes, space.defs, grid, group, warps, first.num_stages)
    return replace(schedule, descriptors=first.descriptors, phases=2 if _is_masked(access) else 1)


def _turns(access: Access, chain: Chain, row: str, target: Target) -> tuple[tuple[str, ...], tuple[str, int] | None]:
    """The axes of the grid, fastest first, and which of them is numbered in groups.

    Tiles of rows come one after another, which sweep the same. Under a mask their sweeps may be unlike long: then as
    many heads as the cache has room for take turns, and the longest sweeps of all of these come first.
    """
    grid = tuple(sorted(chain.grid, key=lambda a: (a != row, -chain.grid.index(a))))
    if not row or len(grid) < 2 or target.kind == "cpu" or not _is_masked(access):
        return grid, None
    swept = [load for load in access.loads() if access.free[load] & frozenset(chain.loops)]
    sizes = {load: prod(likely(access.axes[a]) for a in access.free[load]) for load in swept}
    read = sum(min(n, likely(v.value.type.numel)) * v.value.dtype.bytes for v, n in sizes.items())
    heads = prod(likely(access.axes[a]) for a in grid[1:])
    room = int(CACHED * target.l2_bytes * heads / max(1, read))
    others = next_power(room + 1) // 2
    return ((grid[1], row, *grid[2:]), (grid[1], others)) if others > 1 else (grid, None)


def _short(access: Access, loop: str, step: int, row: str, rows: int) -> int:
    """``step``, or half of it as long as that leaves out a good part of what a mask lets a tile of rows sweep: 256
    positions of a window of 128, or 192 (64 heads of 64, 2048 positions on an H200: 56 us, and 38 in steps of 64). Not
    so where data decide what is swept."""
    members = [read for read in access.reductions() if loop in access.nodes[read].bound]
    length = likely(access.axes[row])
    tiles = range(0, length, rows * max(1, length // rows // SAMPLED))

    def positions(step: int) -> int:
        """Those of all tiles together; 0 where no bounds of the sweep follow from the mask."""
        phases, predicates = plan_phases(access, members, loop, step, split=True)
        places = ({row: (i, min(i + rows, length) - 1)} for i in tiles)
        return together(swept(phases, predicates, at) for at in places) or 0

    here = positions(step) if _is_masked(access) else 0
    while here and step > SHORTEST and (half := positions(step // 2)) <= LEFT_OUT * here:
        step, here = step // 2, half
    return step


def _fills(tiles: ChainTiles, chain: Chain, access: Access, row: str, target: Target) -> bool:
    """Whether programs with several tiles of rows are all full, and enough for every multiprocessor."""
    length, taken = access.axes.get(row), tiles.parts * tiles.rows
    if not isinstance(length, int) or length % taken:
        return False
    return length // taken * prod(likely(access.axes[a]) for a in chain.grid if a != row) >= target.sm_count


def _chain(access: Access) -> Chain:
    """The chain that the region still is once axes are merged.

    Raises:
        Unschedulable: it is none any more.
    """
    chain = chain_form(access)
    if isinstance(chain, Reason):
        raise Unschedulable(chain)
    return chain


def _fit_products(access: Access, tiles: dict[str, int], smaller: list[str], target: Target) -> None:
    """Halve the tiles of the axes ``smaller`` until the products that are no dots fit.

    A contraction whose operands are no matrices over its tiled axes, or share one that isn't summed, is a product over
    all these axes.

    Raises:
        Unschedulable: no tile holds that.
    """
    while (found := _too_large(access, tiles, target)) is not None:
        widest = max(smaller, key=lambda a: tiles[a], default="")
        if tiles.get(widest, 0) <= SMALLEST_DOT:
            raise Unschedulable(found)
        tiles[widest] //= 2


def _too_large(access: Access, tiles: dict[str, int], target: Target) -> Reason | None:
    for read in contractions(access):
        node = access.nodes[read]
        tiled = [{a for a in access.free[o] if tiles.get(a, 1) > 1} for o in node.operands]
        shared = frozenset.intersection(*map(frozenset, tiled)).difference(node.bound)
        elements = prod(tiles[a] for a in frozenset().union(*tiled))
        most = target.max_tile_elements if target.kind == "cpu" else MOST_PRODUCTS
        if (shared or max(map(len, tiled)) > 2) and elements > most:
            text = f"%{read.value.name} is no product of matrices there, and {elements} products fit in no tile"
            return Reason("roles", read.value, text, node.op)
    return None


def _hold_sums(access: Access, chain: Chain, tiles: Mapping[str, int], threads: int, target: Target) -> None:
    """Nothing, where the registers of so many threads hold what all sweeps of a program add up of products.

    Raises:
        Unschedulable: they do not, as where two products behind one another are both as wide as 64 rows of 256.
    """
    loops = set(chain.loops)
    summed = [r for r in contractions(access) if loops & set(access.nodes[r].bound) and not loops & access.free[r]]
    if target.kind == "cpu" or len(summed) < 2:
        return
    held = sum(prod(tiles.get(a, 1) for a in access.free[read]) for read in summed)
    if held > MOST_SUMS * threads:
        last = summed[-1]
        text = f"%{last.value.name} is one of {len(summed)} products whose sums, {held} in all, fit in no registers"
        raise Unschedulable(Reason("roles", last.value, text, access.nodes[last].op))


def _one_axis_per_sweep(body: Graph, space: Space, access: Access) -> tuple[Space, Access]:
    """Merge the loop axes of reductions over several: a sweep runs over one axis."""
    for number in range(len(access.reductions())):
        loops = [a for a in access.nodes[access.reductions()[number]].bound if a in _chain(access).loops]
        if len(loops) > 1:
            space, access, _ = merge(body, space, access, loops, loops[-1])
    return space, access


def with_masks_told(schedule: Schedule, access: Access, masks: Container[Read], target: Target) -> Schedule:
    """The schedule of a chain for which a summary tells where ``masks`` hide nothing: if most steps then load operands
    alone, descriptors carry these."""
    if not contractions(access) or target.arch < HOPPER:
        return schedule
    needed: set[Read] = set()
    stack = [root for _, root in access.roots]
    while stack:
        read = stack.pop()
        if read not in needed and read not in masks:
            needed.add(read)
            stack += [*access.nodes[read].operands, *access.index_reads(read).values()]
    operand = multiplied(access, main_contraction(access))
    rows = max((likely(a.extent) for a in schedule.axes if a.role == "grid" and a.tile > 1), default=1)
    wide = any(a.role == "whole" and a.tile > NARROW for a in schedule.axes)
    carried = operand.bytes <= 2 and rows > FEW_ROWS and wide and needed.isdisjoint(_other_loads(access))
    return replace(schedule, descriptors=True) if carried else schedule


def _nested(access: Access, chain: Chain) -> set[str]:
    """The loops of contractions that are computed anew in each step of another loop."""
    inside = [r for r in contractions(access) if access.free[r] & set(chain.loops)]
    return {a for r in inside for a in access.nodes[r].bound if a in chain.loops}


def _choices(access: Access, target: Target, rows: int, widest: int, nested: bool) -> tuple[ChainTiles, ...]:
    """The tiles for a chain of so many rows whose widest whole axis is ``widest``, the best first, the last with one
    tile of rows; from what was measured on an H100.

    Where scores are only scaled, larger tiles pay; what masks or biases them wants the registers. A product that is
    summed by a loop of its own (``nested``) has tiles as it has alone.
    """
    if target.kind == "cpu":
        return (ChainTiles(512, 512, 4, 1),)
    operand = multiplied(access, main_contraction(access))
    if operand.bytes > 2:  # 16 heads x 1024 causal on an H200: of 64, 64 us (99 in steps of 32); of 128, 132 us
        return (ChainTiles(32, 64, 4, 2) if widest <= NARROW else ChainTiles(32, 32, 4, 1),)
    if nested:
        return (ChainTiles(128, 128, 8, 3),)
    if widest > MOST_WHOLE:  # few rows: what takes the time is to read what is held whole
        return (ChainTiles(FEW_ROWS, 64 if rows <= SMALLEST_DOT else 32, 4, 3),)
    if widest > 128 and _is_product(access):
        return (_product_tiles(access, rows, target),)
    if widest > 128:
        return (ChainTiles(64, 32, 4, 2),)
    if rows <= FEW_ROWS:  # reading takes the time, and plain copies into shared memory come out ahead of descriptors
        # Steps of one row alone, which is no dot, were fastest as short as these where two are loaded ahead.
        long = 1 < rows <= SMALLEST_DOT and not _is_masked(access) and target.shared_memory > LONG_STEPS
        # Warps exchange the maxima and sums of 16 rows, fewer of them less (16 x 8 groups of 4 heads of 64 over 2048
        # masked positions on an H200: 9.5 us with four, 7.2 with two).
        warps = 2 if 1 < rows <= SMALLEST_DOT and widest <= NARROW else 4
        return (ChainTiles(FEW_ROWS, 128 if long else 64, warps, 3),)
    if target.arch < HOPPER:
        return (ChainTiles(64, 64, 4, 3),)
    others = _other_loads(access)
    wide, masked, loaded = widest > NARROW, _is_masked(access), _most_dims(access, others)
    few = len(contractions(access)) <= PRODUCTS_OF_A_SWEEP
    if loaded == 0 and few and not wide:
        return (ChainTiles(64, 128, 4, 2, descriptors=True),)
    if loaded == 0 and few and not masked:
        return ChainTiles(128, 64, 8, 3, descriptors=True, parts=2), ChainTiles(128, 64, 4, 2, descriptors=True)
    if wide and loaded > 1 and (masked or not few):  # each step loads a tile of its own beside the operands
        return (ChainTiles(64, 64, 4, 2, descriptors=True),)
    if wide and loaded > 1:
        blocks = all(is_block(access, load) for load in others)
        return (ChainTiles(128, 64, 4, 2, descriptors=True) if blocks else ChainTiles(128, 64, 8, 3),)
    return (ChainTiles(64, 64, 4, 3 if few else 2, descriptors=wide and loaded == 0),)


def _is_product(access: Access) -> bool:
    """Whether all that is swept is the sum of a product, and what reduces its rows, such as a norm, comes behind it."""
    loops = set(_chain(access).loops)
    return sum(not loops.isdisjoint(access.nodes[r].bound) for r in access.reductions()) == 1


def _product_tiles(access: Access, rows: int, target: Target) -> ChainTiles:
    """Those of a product as wide as its rows are: with fewer of them where large tiles leave multiprocessors idle."""
    chain = _chain(access)
    others = prod(likely(access.axes[a]) for a in chain.grid if a not in chain.row)
    blocks = target.arch == HOPPER and all(is_block(access, load) for load in loads_of_contractions(access))
    large = others * -(-rows // 128) >= MOST_OF_PROCESSORS * target.sm_count
    return ChainTiles(*(128, 64, 8, 3) if large else (64, 64, 4, 3), descriptors=blocks)


def _is_masked(access: Access) -> bool:
    """Whether something is decided for each element of a sweep."""
    swept = frozenset(access.bound_axes())
    return any(read.value.dtype.kind == "bool" and access.free[read] & swept for read in access.nodes)


def _other_loads(access: Access) -> list[Read]:
    """The loads in sweeps that are no contractions' operands."""
    swept, operands = frozenset(access.bound_axes()), loads_of_contractions(access)
    return [read for read in access.loads() if read not in operands and access.free[read] & swept]


def _most_dims(access: Access, loads: Sequence[Read]) -> int:
    """Along how many axes of tiles the largest of ``loads`` varies, all being loads in sweeps."""
    rows = frozenset(_chain(access).row)
    return max((1 + bool(access.free[load] & rows) for load in loads), default=0)
