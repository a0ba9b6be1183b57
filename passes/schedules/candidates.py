"""The schedules of a region that are worth a measurement, the most promising by the roofline first.

All have the axes and the roles of the model's first choice; they differ in tiles, warps, stages and options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.schedule import SPREAD, AxisRole, Schedule
from rooftile.passes.regions.access import Access
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import (
    SMALLEST_DOT,
    contractions,
    groups,
    has_dot,
    main_contraction,
    multiplied,
)
from rooftile.passes.regions.forms import as_chain
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.chain import ROWS_OF_TWO_WARPGROUPS
from rooftile.passes.schedules.choice import schedule_region
from rooftile.passes.schedules.estimate import accumulator_elements, programs, seconds, shared_bytes
from rooftile.passes.schedules.joined import joined_operands
from rooftile.passes.schedules.override import with_tiles
from rooftile.passes.schedules.skinny import FEW, warps_for
from rooftile.passes.schedules.tiles import (
    DOT_OPTIONS,
    DOTS,
    DOTS_OF_FP32,
    PLAIN,
    SKINNY,
    SWEEP_OPTIONS,
    SWEEPS,
    SWEEPS_OF_FP32,
    Changes,
    Dot,
)
from rooftile.target import HOPPER, Target

MOST_ACCUMULATORS_PER_THREAD = 192  # registers: three quarters of what a thread can have
MOST_ELEMENTS_PER_THREAD = 64
AGAIN = 0.04  # how much worse every further choice of options with the same tiles is taken to be, for variety


def candidates(body: Graph, target: Target, most: int) -> tuple[Schedule, ...]:
    """At most ``most`` schedules of ``body``: the model's first choice, then the others by their estimates.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
        Unschedulable: no roles run it on this target.
    """
    first = schedule_region(body, target)
    alone = schedule_region(body, target, alone=True)
    starts = (first,) if alone == first else (first, alone)
    found = [each for start in starts for each in _around(start, compose(body, space_of(start)), target)]
    return (first, *(s for s, _ in _ordered(found) if s != first))[:most]


def _around(start: Schedule, access: Access, target: Target) -> Iterator[tuple[Schedule, float]]:
    """The schedules that differ from ``start`` in tiles and options and fit, each with the estimate of its time."""
    variants = {repr(s.attrs()): s for s in (start, *_variants(start, access, target))}
    return ((s, seconds(s, access, target)) for s in variants.values() if s == start or _fits(s, access, target))


def _ordered(found: Sequence[tuple[Schedule, float]]) -> list[tuple[Schedule, float]]:
    """By the estimate, which does not see options."""
    met: Counter[str] = Counter()
    keys: list[float] = []
    for schedule, estimate in found:
        keys.append(estimate * (1 + AGAIN * met[str(schedule)]))
        met[str(schedule)] += 1
    return [found[n] for n in sorted(range(len(found)), key=lambda n: keys[n])]


def _variants(first: Schedule, access: Access, target: Target) -> Iterator[Schedule]:
    if target.kind == "cpu":
        yield from _scaled(first, (0.5, 0.25), (first.num_warps,))
    elif not contractions(access):
        yield from _scaled(first, (1, 0.5, 2, 0.25, 4), (1, 2, 4, 8, 16))
    elif any(a.role == "whole" for a in first.axes) or as_chain(access) is not None:
        yield from _swept(first, access, target)
    else:
        yield from _dots(first, access, target)


def _scaled(first: Schedule, factors: Iterable[float], warps: Iterable[int]) -> Iterator[Schedule]:
    """Larger and smaller tiles of the axis that is tiled most on the grid, and of the loops."""
    tiled = [a for a in first.axes if a.role in SPREAD and a.tile > 1] or [a for a in first.axes if a.role in SPREAD]
    rows = max(tiled, key=lambda a: a.tile, default=None)
    loops = [a for a in first.axes if a.role == "loop"]
    for on_rows, on_loops, num_warps in product(factors, factors if loops else (1,), warps):
        tiles = {a.name: _times(a, on_loops) for a in loops} | ({rows.name: _times(rows, on_rows)} if rows else {})
        yield replace(with_tiles(first, **tiles), num_warps=num_warps)


def _times(axis: AxisRole, factor: float) -> int:
    return max(1, min(int(axis.tile * factor), next_power(likely(axis.extent))))


def _dots(first: Schedule, access: Access, target: Target) -> Iterator[Schedule]:
    main = main_contraction(access)
    shape = groups(access, main)
    if not has_dot(access):
        yield from _scaled(first, (1, 0.5, 2, 4), (1, 2, 4, 8))
        return
    wide = multiplied(access, main).bytes > 2
    m, n = (likely(access.axes[names[0]]) for names in (shape.m, shape.n))
    joined = joined_operands(access) is not None
    options = [each for each in _options(DOT_OPTIONS, wide, target) if joined or "joined" not in each]
    for row in DOTS_OF_FP32 if wide else _rows_of_dots(m, n):
        tiles = {shape.m[0]: row.m, shape.n[0]: row.n, **{a.name: row.k for a in first.axes if a.role == "loop"}}
        yield from _launched(first, tiles, row.num_warps, row.num_stages, options)


def _rows_of_dots(m: int, n: int) -> Iterable[Dot]:
    """Tiles for products of ``m`` rows and ``n`` columns."""
    if min(m, n) > FEW:
        return DOTS
    few = next_power(max(min(m, n), SMALLEST_DOT))
    shapes = [((few, many) if m <= n else (many, few), depth, stages) for many, depth, stages in SKINNY]
    return [Dot(*tile, depth, warps_for(*tile), stages) for tile, depth, stages in shapes]


def _swept(first: Schedule, access: Access, target: Target) -> Iterator[Schedule]:
    wide = multiplied(access, main_contraction(access)).bytes > 2
    rows = max((a for a in first.axes if a.role in SPREAD), key=lambda a: a.tile, default=None)
    for row in SWEEPS_OF_FP32 if wide else SWEEPS:
        tiles = {a.name: row.step for a in first.axes if a.role == "loop"}
        if rows is not None and rows.tile > 1:
            tiles[rows.name] = row.rows
        options = _phased(_options(SWEEP_OPTIONS, wide, target), first)
        yield from _launched(first, tiles, row.num_warps, row.num_stages, options)


def _options(options: Iterable[Changes], wide: bool, target: Target) -> Iterable[Changes]:
    return options if target.arch >= HOPPER and not wide else ({},)


def _phased(options: Iterable[Changes], first: Schedule) -> Iterable[Changes]:
    """``options`` without phases where nothing is masked, which makes some of them equal."""
    return options if first.phases > 1 else [{n: v for n, v in each.items() if n != "phases"} for each in options]


def _launched(
    first: Schedule, tiles: dict[str, int], num_warps: int, num_stages: int, options: Iterable[Changes]
) -> Iterator[Schedule]:
    """The schedule with these tiles, as it is otherwise and with each of the sets of options."""
    extents = {a.name: a.extent for a in first.axes}
    capped = {name: max(SMALLEST_DOT, min(tile, next_power(likely(extents[name])))) for name, tile in tiles.items()}
    plain = replace(with_tiles(first, **capped), num_warps=num_warps, num_stages=num_stages, **PLAIN)
    yield replace(plain, **first.options())
    for changes in options:
        yield replace(plain, **_with_group(changes, first))


def _with_group(changes: Changes, first: Schedule) -> Changes:
    if first.group is None or "group" not in changes:
        return {name: value for name, value in changes.items() if name != "group"}
    return {**changes, "group": (first.group[0], changes["group"])}


def _fits(schedule: Schedule, access: Access, target: Target) -> bool:
    """Whether tiles fit on the chip, and threads have neither too much to hold nor too little to do."""
    held = prod(a.tile for a in schedule.axes if a.role != "parts")
    if target.kind == "cpu":
        return held <= target.max_tile_elements or bool(contractions(access))
    threads = 32 * schedule.num_warps
    if not has_dot(access):
        return 1 <= held // threads <= MOST_ELEMENTS_PER_THREAD
    return (
        shared_bytes(schedule, access) <= target.shared_memory
        and accumulator_elements(schedule, access) <= MOST_ACCUMULATORS_PER_THREAD * threads
        and (schedule.num_warps <= 4 or as_chain(access) is None or _rows(schedule) >= ROWS_OF_TWO_WARPGROUPS)
        and not (schedule.specialize and schedule.num_warps != 4)
        and not (schedule.persistent and programs(schedule) <= target.sm_count)
    )


def _rows(schedule: Schedule) -> int:
    return max((a.tile for a in schedule.axes if a.role in SPREAD), default=1)
