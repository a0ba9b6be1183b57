"""Roles and tiles of a region without reductions: every axis on the grid, the innermost ones in the tile."""

from __future__ import annotations

from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.access import Access, Read, Space, is_in_line
from rooftile.passes.regions.cost import TILE_ON_CPU
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge_freely
from rooftile.target import Target

ELEMENTS = 1024  # of a tile
ELEMENTS_FOR_CACHE = 2048  # of one that reads from the L2 cache, of which each thread then has two loads on their way
STAYS = 8  # a part of the L2 cache that what is read stays in while far more is stored
AGAIN = 2  # times that what is gathered is read, from which on it had better stay
LINE = 128  # bytes, the shortest run that is worth a load


def schedule_pointwise(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    """The first choice of schedule for a region of elementwise ops."""
    space, access, left = merge_freely(body, space, access, list(access.axes))
    columns = _columns_in_cache(access, left, target)
    budget = TILE_ON_CPU if target.kind == "cpu" else ELEMENTS if not columns else ELEMENTS_FOR_CACHE
    tiles: dict[str, int] = {}
    for name in reversed(left):
        tiles[name] = max(1, min(budget, next_power(likely(access.axes[name])), columns.get(name, budget)))
        budget //= tiles[name]
    roles = tuple(AxisRole(a, access.axes[a], "grid", tiles[a]) for a in left)
    fastest_first = (*(a for a in reversed(left) if a not in columns), *columns)
    return Schedule(roles, space.defs, fastest_first, None, 4, 2)


def _columns_in_cache(access: Access, left: list[str], target: Target) -> dict[str, int]:
    """So many columns of rows that are gathered, each several times, that these columns of all rows stay in the L2
    cache; none where all of a row may, or rows are not gathered. Programs then take them for all rows, before the next
    columns.

    8 times 8192 rows of 4 KB, in the order of their experts, took 118 us on an H200, and by 256 columns 85: most rows
    had gone when they were read again.
    """
    column = left[-1] if left else ""
    if target.kind == "cpu" or len(left) < 2:
        return {}
    for load in access.loads():
        elements = likely(load.value.type.numel)
        read = prod(likely(access.axes[a]) for a in access.free[load])
        size, room = elements * load.value.dtype.bytes, target.l2_bytes // STAYS
        if size > room and read >= AGAIN * elements and _is_row(access, load, column):
            rows = max(1, size // likely(access.axes[column]))
            tile = max(LINE // load.value.dtype.bytes, next_power(room // rows + 1) // 2)
            return {column: tile}
    return {}


def _is_row(access: Access, load: Read, column: str) -> bool:
    """Whether ``load`` reads rows at indices that are data, each from one end along the axis ``column``."""
    gathered = [name for read in access.index_reads(load).values() for name in access.free[read]]
    return bool(gathered) and column not in gathered and is_in_line(load, column)
