"""Roles and tiles of a region without reductions: every axis on the grid, the innermost ones in the tile."""

from __future__ import annotations

from rooftile.ir.core import Graph
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.access import Access, Space
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.regions.space import merge_freely
from rooftile.target import Target


def schedule_pointwise(body: Graph, space: Space, access: Access, target: Target) -> Schedule:
    """The first choice of schedule for a region of elementwise ops."""
    space, access, left = merge_freely(body, space, access, list(access.axes))
    budget = 2**18 if target.kind == "cpu" else 1024
    tiles: dict[str, int] = {}
    for name in reversed(left):
        tiles[name] = max(1, min(budget, next_power(likely(access.axes[name]))))
        budget //= tiles[name]
    roles = tuple(AxisRole(a, access.axes[a], "grid", tiles[a]) for a in left)
    return Schedule(roles, space.defs, tuple(reversed(left)), None, 4, 2)
