"""Which kind of schedule a region gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rooftile.ir.core import Graph
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.access import Access, Space
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.forms import as_chain
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import are_swept_apart, region_access
from rooftile.passes.schedules.chain import schedule_chain
from rooftile.passes.schedules.matrix import schedule_matrix
from rooftile.passes.schedules.pointwise import schedule_pointwise
from rooftile.passes.schedules.reduction import schedule_reduction, split_positions, sweeps_within
from rooftile.target import Target


def schedule_region(body: Graph, target: Target, *, alone: bool = False) -> Schedule:
    """The model's first choice of schedule for ``body``; ``alone``: for programs that have one tile of rows each.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
        Unschedulable: no roles run it on this target.
    """
    space, access = region_access(body)
    kind = _kind(access)
    schedule = (partial(kind, alone=alone) if kind is schedule_chain else kind)(body, space, access, target)
    parts = tuple(AxisRole(p, space.leaves[p], "parts", likely(space.leaves[p])) for p in space.parts)
    return replace(schedule, axes=(*parts, *schedule.axes))


def may_be_unschedulable(access: Access) -> bool:
    """Whether ``schedule_region`` must be asked: positions along several axes want them whole, sweeps over several want
    merged ones, and of two sweeps one is within the other."""
    within = sweeps_within(access)
    crossed = any((other, one) in within for one, other in within)
    return bool(split_positions(access)) or crossed or are_swept_apart(access) or _kind(access) is schedule_chain


def _kind(access: Access) -> Callable[[Graph, Space, Access, Target], Schedule]:
    if contractions(access):  # a contraction alone that is neither is computed more than once: what else can be done
        return schedule_matrix if as_chain(access) is None else schedule_chain
    return schedule_reduction if access.reductions() else schedule_pointwise
