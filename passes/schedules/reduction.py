"""Roles and tiles of reductions without contractions: one program reduces a row, whole where a tile holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from rooftile.ir.core import Graph, Op
from rooftile.ir.expr import Size
from rooftile.ir.schedule import AxisRole, Role, Schedule
from rooftile.passes.regions.access import Access, Read, Space, is_in_line
from rooftile.passes.regions.cost import TILE_ON_CPU
from rooftile.passes.regions.forms import Reason, Unschedulable
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge, merge_freely
from rooftile.passes.rules.correct import is_position
from rooftile.passes.schedules.estimate import WARPS_PER_PROCESSOR
from rooftile.target import Target

ELEMENTS = 4096  # of a tile of several rows
FEW_ROWS = 2  # for each multiprocessor
LONG_STEP = 2**13  # elements, and as many more as come in LONG_LOAD: 64 sums of 65536 bytes on an H200 10.0 us, now 7.1
LONG_LOAD = 2**14  # bytes
MOST_WARPS = 16
BYTES_OF_WARP = 32 * 16  # in one load
MOST_OF_WARP = 32 * 64  # elements that its registers hold
PAIRS = 8  # times as many elements as are loaded
ROWS_OF_A_WARP = 2
MOST_PAIRS_OF_WARP = 32 * 256  # they are counted as soon as they are computed


def schedule_reduction(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    """The first choice of schedule for a region of reductions.

    Raises:
        Unschedulable: a position is wanted along several axes that no tile holds, or two sweeps each within the other.
    """
    inner = _inner_axes(access)
    outer = [a for a in access.axes if a not in inner]
    space, access, outer = merge_freely(body, space, access, outer)
    inner = [a for a in access.axes if a not in outer]
    space, access, inner = _one_loop_each(body, space, access, inner, target)
    roles, elements = _inner_roles(access, inner, target)
    _one_within_the_other(access, [role.name for role in roles if role.role == "loop"])
    budget = (TILE_ON_CPU if target.kind == "cpu" else ELEMENTS) // max(1, elements)
    loops = [a for a in roles if a.role == "loop"]
    count = prod(likely(access.axes[a]) for a in outer)
    large = _largest_load(access)
    if target.kind == "cuda" and not any(large is not None and is_in_line(large, a) for a in outer):
        budget = min(budget, max(1, next_power(count // target.sm_count + 1) // 2))  # so that no multiprocessor idles
    if target.kind == "cuda" and len(loops) == len(roles) == 1 and count < FEW_ROWS * target.sm_count:
        # Each program has a long way to go alone: in long steps, of which each waits for memory and for all warps.
        narrow = LONG_LOAD // large.value.dtype.bytes if large is not None else 0
        budget, elements = 1, min(max(LONG_STEP, narrow), next_power(likely(loops[0].extent)))
        roles = [replace(loops[0], tile=elements)]
    pairs = target.kind == "cuda" and elements >= PAIRS * _loaded(access, roles)
    if pairs and count > FEW_ROWS * target.sm_count:
        budget = max(2, budget)
    rows: list[AxisRole] = []
    for name in reversed(outer):
        tile = max(1, min(budget, next_power(likely(access.axes[name]))))
        budget //= tile
        rows.insert(0, AxisRole(name, access.axes[name], "grid", tile))
    for row in rows:
        elements *= row.tile
    warps = max(1, min(MOST_WARPS, next_power(elements // 512)))
    programs = prod(-(-likely(row.extent) // row.tile) for row in rows)
    crowded = programs * warps > WARPS_PER_PROCESSOR * target.sm_count  # not all run at once
    if target.kind == "cuda" and (crowded or not pairs):
        wanted = _warps_of_pairs(rows) if pairs else _warps_in_line(access, [*rows, *roles])
        warps = min(warps, max(wanted, elements // (MOST_PAIRS_OF_WARP if pairs else MOST_OF_WARP)))
    return Schedule((*rows, *roles), space.defs, tuple(reversed(outer)), None, warps, 2)


def _loaded(access: Access, roles: list[AxisRole]) -> int:
    """The most elements of a row that are loaded at once."""
    tiles = {role.name: role for role in roles}
    return max((_held(access.free[load], tiles) for load in access.loads()), default=1)


def _warps_of_pairs(rows: list[AxisRole]) -> int:
    """How many warps work on rows whose elements are compared with one another, of which far more pairs are held than
    elements are loaded: each has two rows of its own, so that none waits for what another has counted.

    The ranks of 64 numbers in 8192 rows took 87 us on an H100 with 8 warps for a row, 31 with one for each of two rows.
    On an H200 the latter took 28, and 18 with one warp for both; of 32 numbers, 11.4 and 10.3.
    """
    return max(1, prod(row.tile for row in rows) // ROWS_OF_A_WARP)


def _warps_in_line(access: Access, tiled: list[AxisRole]) -> int:
    """How many warps load what lies in line in memory, where that are results beside one another, not what is reduced:
    with more, each sums a part of what is reduced, and they exchange these parts.

    Sums of 8 rows, 512 columns at a time, with 8 warps moved 0.54 TB/s on an H100; of 2 rows and 2048 columns, with as
    many, 3.5. Of 16 tokens, in 64 programs, they took 4.4 us, where launches are over in 2.
    """
    large = _largest_load(access)
    for role in tiled:
        if large is not None and role.tile > 1 and is_in_line(large, role.name) and _beside(access, large, role.name):
            return max(1, role.tile * large.value.dtype.bytes // BYTES_OF_WARP)
    return MOST_WARPS


def _beside(access: Access, load: Read, name: str) -> bool:
    """Whether results of what is loaded lie beside one another along the axis: it is reduced along others first."""
    reductions = [
        access.nodes[r].bound for r in access.reductions() if access.free[load].intersection(access.nodes[r].bound)
    ]
    return not reductions or name not in reductions[0]


def _largest_load(access: Access) -> Read | None:
    return max(access.loads(), key=lambda load: prod(likely(access.axes[a]) for a in access.free[load]), default=None)


def _inner_axes(access: Access) -> list[str]:
    """The axes that one program runs over: the reduced ones, and those that some reduction's result is shared along."""
    shared = set(access.bound_axes())
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
    """How many elements of rows one program holds: half of the largest tile, since something is computed from them."""
    return target.max_tile_elements // 2


def _inner_roles(access: Access, inner: list[str], target: Target) -> tuple[list[AxisRole], int]:
    """Roles of the axes that one program runs over, and how many elements the largest tile of them holds: whole while
    the tiles of all values that vary along an axis fit, else loops."""
    limit, step = _row_limit(target), 2**14 if target.kind == "cpu" else 2048
    positions = {a: op for op, read in split_positions(access) for a in access.nodes[read].bound}
    spans = {access.free[read].union(node.bound) for read, node in access.nodes.items()}
    spans.add(frozenset(access.axes).difference(access.bound_axes()))  # what is stored
    roles: dict[str, AxisRole] = {}
    for name in sorted(inner, key=lambda a: likely(access.axes[a])):
        room = limit // max(_held(span, roles) for span in spans if name in span)
        whole = held_whole(access.axes[name], room)
        role: Role = "whole" if whole else "loop"
        tile = whole or max(1, min(step, room, next_power(likely(access.axes[name]))))
        if not whole and name in positions:
            text = f"the position along {name} is wanted, and a tile can't hold all of it"
            raise Unschedulable(Reason("roles", positions[name].output, text, positions[name]))
        roles[name] = AxisRole(name, access.axes[name], role, tile)
    return [roles[a] for a in access.axes if a in roles], max(_held(span, roles) for span in spans)


def _one_within_the_other(access: Access, loops: list[str]) -> None:
    """Nothing, where sweeps can be nested as reductions need it.

    Raises:
        Unschedulable: of two axes each is swept for every position of the other, as for sums of columns and of rows.
    """
    within = sweeps_within(access)
    for one, other in within:
        if one in loops and other in loops and (other, one) in within:
            read = within[one, other]
            text = f"%{read.value.name} is swept over {one} for every {other}, and another over {other} for every {one}"
            raise Unschedulable(Reason("roles", read.value, text))


def sweeps_within(access: Access) -> dict[tuple[str, str], Read]:
    """Reductions by ``(axis, other)``, where they run over the axis for each position of the other."""
    pairs = ((a, b, r) for r in access.reductions() for a in access.nodes[r].bound for b in access.free[r])
    return {(a, b): read for a, b, read in pairs}


def _held(span: frozenset[str], roles: Mapping[str, AxisRole]) -> int:
    """How many elements of a value that varies along ``span`` a tile of these axes holds."""
    return prod(roles[a].tile for a in span if a in roles)


def held_whole(extent: Size, limit: int) -> int | None:
    """The tile that holds an axis whole, or None where its extent isn't bounded by ``limit``."""
    return next_power(extent) if isinstance(extent, int) and next_power(extent) <= limit else None


def split_positions(access: Access) -> list[tuple[Op, Read]]:
    """The reductions that give positions along several axes at once: no sweep over one of these finds them."""
    reductions = [(op, read) for read in access.reductions() if (op := access.nodes[read].op) is not None]
    return [(op, read) for op, read in reductions if is_position(access, read) and len(access.nodes[read].bound) > 1]
