"""Pass ``tile``: every axis of every region gets a role and a size.

What decides is only where an axis occurs (free in every reduction, reduced, in one operand of a contraction or in both)
and what the target can hold::

    region {axes: i, j, k}  ->  roles ((i, grid, 128), (j, grid, 256), (k, loop, 64))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op, freeze_attrs
from rooftile.ir.schedule import Schedule
from rooftile.ir.structure import Structures
from rooftile.passes.base import PassContext
from rooftile.passes.distinct import Distinct
from rooftile.passes.schedules.choice import schedule_region
from rooftile.target import Target


@dataclass(frozen=True)
class Tile:
    """Chooses the schedule of every region op that has none yet."""

    name: ClassVar[str] = "tile"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with schedules on its regions."""
        if all(op.name != "region" or "roles" in op.attrs for op in graph.ops):
            return graph
        known = Distinct[Schedule](ctx.structures)
        return replace(graph, ops=tuple(self.schedule_op(op, ctx.target, known) for op in graph.ops))

    def schedule_op(self, op: Op, target: Target, known: Distinct[Schedule] | None = None) -> Op:
        """The region op with a schedule, that of one like it if that is ``known``; any other op as it is."""
        if op.name != "region" or "roles" in op.attrs:
            return op
        body = op.regions[0]
        schedule, _ = (known or Distinct(Structures(named=True))).of(body, lambda: schedule_region(body, target))
        return replace(op, attrs=freeze_attrs({**op.attrs, **schedule.attrs()}))
