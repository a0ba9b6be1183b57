"""Roles and tiles of contractions side by side: the result's axes on the grid, the summed axes swept."""

from __future__ import annotations

from math import prod

from rooftile.ir.blocks import steps_along
from rooftile.ir.core import Graph
from rooftile.ir.scalar import SCALARS
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.access import Access, Read, Space, address
from rooftile.passes.regions.contractions import (
    SMALLEST_DOT,
    Groups,
    contractions,
    groups,
    is_loaded,
    main_contraction,
    multiplied,
)
from rooftile.passes.regions.ragged import segments
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge
from rooftile.passes.schedules.blocks import LARGEST_TILE, is_block
from rooftile.passes.schedules.dots import Dots, dot_tiles
from rooftile.passes.schedules.joined import joined_operands, load_of
from rooftile.passes.schedules.skinny import is_skinny, skinny_tiles, vector_tiles
from rooftile.target import Target

FAR = 2**62  # elements


def schedule_matrix(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    """The first choice of schedule for a region with contractions that is no chain."""
    space, access, shape = _merge_groups(body, space, access)
    bound = access.bound_axes()
    kept = {a: e for a, e in access.axes.items() if a not in bound}
    dots = _dots(access, shape)
    limits = skinny_tiles(target, dots) if is_skinny(target, dots) else dot_tiles(target, dots)
    is_dot = bool(shape.m and shape.n)
    tiles = {**_capped(access, shape.m[:1], limits.m, is_dot), **_capped(access, shape.n[:1], limits.n, is_dot)}
    if not is_dot:
        tiles = _product_tiles(access, shape, bound, target)
    order = _second_last(access, shape, list(kept)) if is_dot else list(kept)
    roles = [AxisRole(a, kept[a], "ragged" if a in access.segments else "grid", tiles.get(a, 1)) for a in order]
    for name in bound:
        size = min(limits.k, max(SMALLEST_DOT, next_power(likely(access.axes[name]))))
        roles.append(AxisRole(name, access.axes[name], "loop", size if is_dot else tiles[name]))
    grid = tuple(reversed([a for a in kept if a not in (*shape.m, *shape.n)] + [*shape.n[:1], *shape.m[:1]]))
    grid += tuple(a for a in kept if a not in grid)
    several = is_dot and all(likely(access.axes[a]) > tiles[a] for a in (shape.m[0], shape.n[0]))
    group = (shape.m[0], 8) if several and target.kind == "cuda" else None
    options = limits.options if is_dot else {}
    return Schedule(tuple(roles), space.defs, grid, group, limits.num_warps, limits.num_stages, **options)


def _merge_groups(body: Graph, space: Space, access: Access) -> tuple[Space, Access, Groups]:
    """Merge the axes of each group into one, so that a tile is a matrix; summed axes always, the others where they are
    several."""
    for letter in ("m", "n"):
        names: tuple[str, ...] = getattr(groups(access, main_contraction(access)), letter)
        if len(names) > 1 and access.segments.keys().isdisjoint(names):
            space, access, _ = merge(body, space, access, names, letter)
    for number in range(len(contractions(access))):
        bound = groups(access, contractions(access)[number]).k
        if len(bound) > 1:
            space, access, _ = merge(body, space, access, bound, "k")
    return space, access, groups(access, main_contraction(access))


def _dots(access: Access, shape: Groups) -> Dots:
    main = main_contraction(access)
    together = [r for r in contractions(access) if access.free[r] == access.free[main]]
    operands = [o for r in together for o in access.nodes[r].operands]
    flops, moved = _epilogue(access, access.free[main])
    dtype = multiplied(access, main)
    batch = prod(likely(access.axes[a]) for a in shape.batch)
    pieces = prod(segments(access, a) for a in shape.m[:1] + shape.n[:1])
    blocks = dtype.bytes == 2 and batch == 1 and all(_is_block(access, o) for o in operands)
    return Dots(
        bytes=dtype.bytes,
        accumulators=len(together),
        m=_rows(access, shape.m[0]) if shape.m else 1,
        n=_rows(access, shape.n[0]) if shape.n else 1,
        batch=batch * pieces,
        computed=any(not is_loaded(access, o) for o in operands),
        epilogue=flops,
        epilogue_bytes=moved,
        blocks=blocks and pieces == 1,
        joined=joined_operands(access) is not None,
        segments=pieces,
        blocks_of_groups=blocks and pieces > 1,
        depth=prod(likely(access.axes[a]) for a in shape.k),
    )


def _rows(access: Access, name: str) -> int:
    """How long an axis is; of a ragged one, a segment that is as long as the others."""
    return -(-likely(access.axes[name]) // segments(access, name))


def _is_block(access: Access, operand: Read) -> bool:
    """Whether ``operand`` is loaded as it stands, in blocks that a descriptor can carry."""
    load = load_of(access, operand)
    return load is not None and is_block(access, load)


def _second_last(access: Access, shape: Groups, names: list[str]) -> list[str]:
    """``names`` with an axis that is two in memory, such as heads and positions in them, behind the other of a product,
    or one along which two products are joined: only as its second operand are blocks of three dimensions taken from
    shared memory as they are."""
    pair = (shape.m[0], shape.n[0])
    loads = [load_of(access, o) for o in access.nodes[main_contraction(access)].operands]
    split = {a for load in loads if load is not None for a in pair if _two_in_memory(load, a)}
    if (joined := joined_operands(access)) is not None:
        split = {a for a in pair if a in access.free[joined[1]]}
    if len(split) != 1 or min(pair, key=names.index) not in split:
        return names
    first, last = sorted(pair, key=names.index)
    return [last if a == first else first if a == last else a for a in names]


def _two_in_memory(load: Read, axis: str) -> bool:
    found = steps_along(address(load), axis, LARGEST_TILE)
    return found is not None and len(found[0]) > 1


def _epilogue(access: Access, grid: frozenset[str]) -> tuple[int, int]:
    """What is done on an element of the result, as FLOPs and two for each load; and the bytes loaded and stored."""
    nodes = {read: node.op for read, node in access.nodes.items() if access.free[read] == grid}
    computed = sum(SCALARS[op.attrs["fn"]].flops for op in nodes.values() if op is not None and op.name == "pointwise")
    loaded = [read.value.dtype.bytes for read, op in nodes.items() if op is None]
    stored = [read.value.dtype.bytes for _, read in access.roots]
    return computed + 2 * len(loaded), sum(loaded) + sum(stored)


def _capped(access: Access, names: tuple[str, ...], limit: int, is_dot: bool) -> dict[str, int]:
    least = SMALLEST_DOT if is_dot else 1
    return {a: max(least, min(limit, next_power(likely(access.axes[a])))) for a in names}


def _product_tiles(access: Access, shape: Groups, bound: list[str], target: Target) -> dict[str, int]:
    """Tiles of a contraction that is no matrix product (a row, or all axes shared): rows of products, summed. The rows
    are those that lie closest in the operand that is the most to read."""
    kept = (*shape.m, *shape.n, *shape.batch)
    large = max(access.loads(), key=lambda load: prod(likely(access.axes[a]) for a in access.free[load]), default=None)
    steps = {a: _stride(large, a) for a in reversed(kept) if large is not None and likely(access.axes[a]) > 1}
    rows = min(steps, key=lambda a: steps[a], default=kept[-1] if kept else None)
    depth = max((likely(access.axes[a]) for a in bound), default=1)
    count = prod(likely(access.axes[a]) for a in kept) if large is not None else 1
    across = rows is not None and steps.get(rows) == 1 and all(_stride(large, a) > 1 for a in bound)
    tile, depth = vector_tiles(target, count, depth, across=across)
    tiled = _capped(access, (rows,), tile, False) if rows is not None else {}
    return tiled | {a: min(depth, next_power(likely(access.axes[a]))) for a in bound}


def _stride(load: Read | None, axis: str) -> int:
    """How far apart in memory, in elements, neighbours along ``axis`` lie; far where it is not known."""
    if load is None:
        return FAR
    found = steps_along(address(load), axis, 1)
    stride = found[0][-1].stride if found is not None else None
    return stride if isinstance(stride, int) and stride > 0 else FAR
