"""Pass ``tile``: every axis of every region gets a role and a size.

What decides is only where an axis occurs (free in every reduction, reduced, in one operand of a contraction or in both)
and what the target can hold::

    region {axes: i, j, k}  ->  roles ((i, grid, 128), (j, grid, 256), (k, loop, 64))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from rooftile.ir.core import Graph, Op, freeze_attrs
from rooftile.ir.expr import Size
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.ir.schedule import AxisRole, Role, Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.regions.access import Access, Read, Space
from rooftile.passes.regions.contractions import Groups, contractions, groups, is_loaded, main_contraction
from rooftile.passes.regions.forms import Chain, Reason, Unschedulable, chain_form, matrix_form
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge, merge_freely, region_access
from rooftile.passes.tile_chain import schedule_chain
from rooftile.target import Target


@dataclass(frozen=True)
class Tile:
    """Chooses the schedule of every region op that has none yet."""

    name: ClassVar[str] = "tile"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with schedules on its regions."""
        if all(op.name != "region" or "roles" in op.attrs for op in graph.ops):
            return graph
        return replace(graph, ops=tuple(self.schedule_op(op, ctx.target) for op in graph.ops))

    def schedule_op(self, op: Op, target: Target) -> Op:
        """The region op with a schedule; any other op as it is."""
        if op.name != "region" or "roles" in op.attrs:
            return op
        schedule = schedule_region(op.regions[0], target)
        return replace(op, attrs=freeze_attrs({**op.attrs, **schedule.attrs()}))


def schedule_region(body: Graph, target: Target) -> Schedule:
    """The model's first choice of schedule for ``body``.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
        Unschedulable: no roles run it on this target.
    """
    space, access = region_access(body)
    schedule = _form(access)(body, space, access, target)
    parts = tuple(AxisRole(p, space.leaves[p], "parts", likely(space.leaves[p])) for p in space.parts)
    return replace(schedule, axes=(*parts, *schedule.axes))


def _form(access: Access) -> Callable[[Graph, Space, Access, Target], Schedule]:
    if contractions(access):  # a contraction alone that is neither is computed more than once: what else can be done
        is_chain = matrix_form(access) is not None and isinstance(chain_form(access), Chain)
        return schedule_chain if is_chain else _contraction
    return _reduction if access.reductions() else _pointwise


def held_whole(extent: Size, limit: int) -> int | None:
    """The tile that holds an axis whole, or None where its extent isn't bounded by ``limit``."""
    return next_power(extent) if isinstance(extent, int) and next_power(extent) <= limit else None


# Contractions.


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


MOST_EPILOGUE = 11  # more beside 128 registers of accumulators was seen to spill some


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


def _contraction(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    space, access, shape = _merge_groups(body, space, access)
    kept = {a: e for a, e in access.axes.items() if a not in _bound(access)}
    limits = dot_tiles(target, _dots(access, shape))
    is_dot = bool(shape.m and shape.n)
    tiles = {**_capped(access, shape.m[:1], limits.m, is_dot), **_capped(access, shape.n[:1], limits.n, is_dot)}
    if not is_dot:
        tiles = _product_tiles(access, shape, target)
    roles = [AxisRole(a, e, "grid", tiles.get(a, 1)) for a, e in kept.items()]
    for name in dict.fromkeys(_bound(access)):
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


def _capped(access: Access, names: tuple[str, ...], limit: int, is_dot: bool) -> dict[str, int]:
    least = 16 if is_dot else 1
    return {a: max(least, min(limit, next_power(likely(access.axes[a])))) for a in names}


def _bound(access: Access) -> list[str]:
    return [name for read in access.reductions() for name in access.nodes[read].bound]


def _product_tiles(access: Access, shape: Groups, target: Target) -> dict[str, int]:
    """Tiles of a contraction that is no matrix product (a row, or all axes shared): rows of products, summed."""
    names = (*shape.m, *shape.n, *shape.batch)[-1:]
    return _capped(access, names, 2**9 if target.kind == "cpu" else 16, False)


def _product_depth(access: Access, name: str, target: Target) -> int:
    return min(next_power(likely(access.axes[name])), 2**9 if target.kind == "cpu" else 256)


# Reductions without contractions.


def _reduction(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    inner = _inner_axes(access)
    outer = [a for a in access.axes if a not in inner]
    space, access, outer = merge_freely(body, space, access, outer)
    inner = [a for a in access.axes if a not in outer]
    space, access, inner = _one_loop_each(body, space, access, inner, target)
    roles, elements = _inner_roles(access, inner, target)
    budget = (2**18 if target.kind == "cpu" else 4096) // max(1, elements)
    rows: list[AxisRole] = []
    for name in reversed(outer):
        tile = max(1, min(budget, next_power(likely(access.axes[name]))))
        budget //= tile
        rows.insert(0, AxisRole(name, access.axes[name], "grid", tile))
    for row in rows:
        elements *= row.tile
    warps = max(1, min(16, next_power(elements // 512)))
    return Schedule((*rows, *roles), space.defs, tuple(reversed(outer)), None, warps, 2)


def _inner_axes(access: Access) -> list[str]:
    """The axes that one program runs over: the reduced ones, and those that some reduction's result is shared along."""
    shared = set(_bound(access))
    for read in access.reductions():
        shared |= {a for a in access.axes if a not in access.free[read]}
    return [a for a in access.axes if a in shared]


def _one_loop_each(
    body: Graph, space: Space, access: Access, inner: list[str], target: Target
) -> tuple[Space, Access, list[str]]:
    """Merge the axes of reductions over several axes where they can't all be held whole: a sweep runs over one axis."""
    for number in range(len(access.reductions())):
        bound = access.nodes[access.reductions()[number]].bound
        total = 1
        for name in bound:
            total *= held_whole(access.axes[name], _row_limit(target)) or 2**62
        if len(bound) > 1 and total > _row_limit(target):
            ordered = [a for a in access.axes if a in bound]
            space, access, _ = merge(body, space, access, ordered, ordered[-1])
    return space, access, [a for a in access.axes if a in set(_inner_axes(access))]


def _row_limit(target: Target) -> int:
    return 2**18 if target.kind == "cpu" else 2**14


def _inner_roles(access: Access, inner: list[str], target: Target) -> tuple[list[AxisRole], int]:
    """Roles of the axes that one program runs over, and how many elements a tile of them holds: whole while the tile
    fits, else loops."""
    limit, step = _row_limit(target), 2**14 if target.kind == "cpu" else 2048
    positions = {a: op for op, read in positioned(access) for a in access.nodes[read].bound}
    elements, roles = 1, []
    for name in sorted(inner, key=lambda a: likely(access.axes[a])):
        whole = held_whole(access.axes[name], limit // elements)
        role: Role = "whole" if whole else "loop"
        tile = whole or max(1, min(step, limit // elements, next_power(likely(access.axes[name]))))
        if not whole and name in positions:
            text = f"the position along {name} is wanted, and a tile can't hold all of it"
            raise Unschedulable(Reason("roles", positions[name].output, text, positions[name]))
        elements *= tile
        roles.append(AxisRole(name, access.axes[name], role, tile))
    order = {a: n for n, a in enumerate(access.axes)}
    return sorted(roles, key=lambda r: order[r.name]), elements


def may_be_unschedulable(access: Access) -> bool:
    """Whether ``schedule_region`` must be asked: positions want whole axes, a chain's sweeps want merged ones."""
    return bool(positioned(access)) or _form(access) is schedule_chain


def positioned(access: Access) -> list[tuple[Op, Read]]:
    """The reductions that give positions, such as argmax: they want all of their axis in one tile."""
    reductions = [(op, read) for read in access.reductions() if (op := access.nodes[read].op) is not None]
    return [(op, r) for op, r in reductions if op.name == "reduce" and COMBINES[op.attrs["fn"]].position]


# Pointwise regions.


def _pointwise(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    space, access, left = merge_freely(body, space, access, list(access.axes))
    budget = 2**18 if target.kind == "cpu" else 1024
    tiles: dict[str, int] = {}
    for name in reversed(left):
        tiles[name] = max(1, min(budget, next_power(likely(access.axes[name]))))
        budget //= tiles[name]
    roles = tuple(AxisRole(a, access.axes[a], "grid", tiles[a]) for a in left)
    return Schedule(roles, space.defs, tuple(reversed(left)), None, 4, 2)
