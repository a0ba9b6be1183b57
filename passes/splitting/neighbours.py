"""Products that may share a launch: together they fill the device, so that none has to be cut for that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rooftile.ir.core import Graph, Op
from rooftile.ir.structure import Structures
from rooftile.passes.dependences import Dependences
from rooftile.passes.distinct import Distinct
from rooftile.passes.packing import readers
from rooftile.passes.regions.access import NoCommonSpace
from rooftile.passes.regions.contractions import groups, main_contraction
from rooftile.passes.regions.forms import Unschedulable, is_matrix
from rooftile.passes.regions.space import region_access
from rooftile.passes.schedules.choice import schedule_region
from rooftile.passes.schedules.estimate import programs
from rooftile.target import Target


def programs_beside(graph: Graph, target: Target, structures: Structures) -> Mapping[Op, int]:
    """How many programs run products that read what a product reads, weights aside, and wait for it as little as it for
    them: those that the pass ``beside`` may let share its launch. Only products whose tiles are matrices have an
    entry."""
    if target.kind != "cuda":
        return {}
    known = Distinct[int](structures)
    regions = [op for op in graph.ops if op.name == "region" and not op.regions[0].size_symbols()]
    counts = {op: n for op in regions if (n := known.of(op.regions[0], partial(_programs, op, target))[0])}
    reads = readers(graph, counts)
    order, found = Dependences(graph), {}
    for op in counts:
        others = dict.fromkeys(o for v in op.inputs for o in reads.get(v, ()) if o is not op)
        found[op] = sum(counts[other] for other in order.independent([op, *others])[1:])
    return found


def _programs(op: Op, target: Target) -> int:
    """How many programs the tiles of a product of matrices take; 0 for anything else."""
    try:
        access = region_access(op.regions[0])[1]
        if not is_matrix(access) or access.segments:
            return 0
        shape = groups(access, main_contraction(access))
        return programs(schedule_region(op.regions[0], target)) if shape.m and shape.n else 0
    except (NoCommonSpace, Unschedulable):
        return 0
