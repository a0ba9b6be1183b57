"""Roles and tiles of contractions side by side: the result's axes on the grid, the summed axes swept."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.scalar import SCALARS
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.access import Access, Space
from rooftile.passes.regions.contractions import Groups, contractions, groups, is_loaded, main_contraction
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge
from rooftile.target import Target

MOST_EPILOGUE = 11  # more beside 128 registers of accumulators was seen to spill some


@dataclass(frozen=True)
class DotTiles:
    """The largest tiles of a contraction on a kind of target, and the launch options that go with them."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Dots:
    """What decides the tiles of contractions that share a kernel.

    Operands of ``bytes`` an element, ``accumulators`` results at once, each ``m`` by ``n`` and ``batch`` times;
    ``computed``: an operand is computed, not loaded; ``epilogue``: what follows on an element of the result, as FLOPs
    and two for each load.
    """

    bytes: int
    accumulators: int
    m: int
    n: int
    batch: int
    computed: bool = False
    epilogue: int = 0


def schedule_matrix(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    """The first choice of schedule for a region with contractions that is no chain."""
    space, access, shape = _merge_groups(body, space, access)
    bound = access.bound_axes()
    kept = {a: e for a, e in access.axes.items() if a not in bound}
    limits = dot_tiles(target, _dots(access, shape))
    is_dot = bool(shape.m and shape.n)
    tiles = {**_capped(access, shape.m[:1], limits.m, is_dot), **_capped(access, shape.n[:1], limits.n, is_dot)}
    if not is_dot:
        tiles = _product_tiles(access, shape, target)
    roles = [AxisRole(a, e, "grid", tiles.get(a, 1)) for a, e in kept.items()]
    for name in bound:
        size = min(limits.k, max(16, next_power(likely(access.axes[name]))))
        roles.append(
            AxisRole(name, access.axes[name], "loop", size if is_dot else _product_depth(access, name, target))
        )
    grid = tuple(reversed([a for a in kept if a not in (*shape.m, *shape.n)] + [*shape.n[:1], *shape.m[:1]]))
    grid += tuple(a for a in kept if a not in grid)
    several = is_dot and likely(access.axes[shape.n[0]]) > tiles[shape.n[0]]
    group = (shape.m[0], 8) if several and target.kind == "cuda" else None
    return Schedule(tuple(roles), space.defs, grid, group, limits.num_warps, limits.num_stages)


def _merge_groups(body: Graph, space: Space, access: Access) -> tuple[Space, Access, Groups]:
    """Merge the axes of each group into one, so that a tile is a matrix; summed axes always, the others where they are
    several."""
    for kind, letter in (("m", "m"), ("n", "n")):
        names: tuple[str, ...] = getattr(groups(access, main_contraction(access)), kind)
        if len(names) > 1:
            space, access, _ = merge(body, space, access, names, letter)
    for number in range(len(contractions(access))):
        bound = groups(access, contractions(access)[number]).k
        if len(bound) > 1:
            space, access, _ = merge(body, space, access, bound, "k")
    return space, access, groups(access, main_contraction(access))


def dot_tiles(target: Target, dots: Dots) -> DotTiles:
    """First choice of tiles."""
    if target.kind == "cpu":
        return DotTiles(512, 512, 512, 4, 1)
    count = dots.accumulators
    if dots.bytes > 2:  # fp32 on the scalar units: the accumulator and both operands share the registers
        return DotTiles(64, 64 // count if count < 4 else 16, 16, 8, 2)
    if dots.m <= 64:  # every warp holds all rows of a computed operand
        return DotTiles(next_power(max(dots.m, 16)), 64, 64 if dots.computed else 128, 4, 3)
    columns = 256 // count if dots.epilogue <= MOST_EPILOGUE and target.shared_memory > 200_000 else 128 // count
    if columns == 256 and _programs(dots, 128, 256) >= target.sm_count:
        return DotTiles(128, 256, 64, 8, 3)
    if 2 * _programs(dots, 128, 128) < target.sm_count:
        return DotTiles(64, 128 // min(count, 2), 64, 4, 3)
    return DotTiles(128, min(128, columns), 64, 8, 3)


def _programs(dots: Dots, tile_m: int, tile_n: int) -> int:
    """How many programs the results take; a tile that is half empty counts as half."""
    return dots.batch * dots.m * dots.n // (tile_m * tile_n)


def _dots(access: Access, shape: Groups) -> Dots:
    main = main_contraction(access)
    together = [r for r in contractions(access) if access.free[r] == access.free[main]]
    return Dots(
        bytes=access.nodes[main].operands[0].value.dtype.bytes,
        accumulators=len(together),
        m=likely(access.axes[shape.m[0]]) if shape.m else 1,
        n=likely(access.axes[shape.n[0]]) if shape.n else 1,
        batch=prod(likely(access.axes[a]) for a in shape.batch),
        computed=any(not is_loaded(access, o) for r in together for o in access.nodes[r].operands),
        epilogue=_epilogue(access, access.free[main]),
    )


def _epilogue(access: Access, grid: frozenset[str]) -> int:
    """What is done on an element of the result, as FLOPs and two for each load."""
    ops = [node.op for read, node in access.nodes.items() if access.free[read] == grid]
    computed = sum(SCALARS[op.attrs["fn"]].flops for op in ops if op is not None and op.name == "pointwise")
    return computed + 2 * ops.count(None)


def _capped(access: Access, names: tuple[str, ...], limit: int, is_dot: bool) -> dict[str, int]:
    least = 16 if is_dot else 1
    return {a: max(least, min(limit, next_power(likely(access.axes[a])))) for a in names}


def _product_tiles(access: Access, shape: Groups, target: Target) -> dict[str, int]:
    """Tiles of a contraction that is no matrix product (a row, or all axes shared): rows of products, summed."""
    names = (*shape.m, *shape.n, *shape.batch)[-1:]
    return _capped(access, names, 2**9 if target.kind == "cpu" else 16, False)


def _product_depth(access: Access, name: str, target: Target) -> int:
    return min(next_power(likely(access.axes[name])), 2**9 if target.kind == "cpu" else 256)
