"""Pass ``reschedule``: regions that have a better schedule than the model's first choice get it, and its kernel.

It is no part of the pipeline: what is better was measured, so the lowered graph and a GPU were there before::

    region  roles ((i, grid, 128), (j, grid, 256), (k, loop, 64))  ->  roles ((i, grid, 128), (j, grid, 128), ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.schedules.override import rescheduled


@dataclass(frozen=True)
class Better:
    """A schedule, and the reason for it in words."""

    schedule: Schedule
    reason: str


@dataclass(frozen=True)
class Reschedule:
    """``better`` says what to change, by region op; fp32 dots have ``precision``, as in ``Lower``."""

    name: ClassVar[str] = "reschedule"
    better: Mapping[Op, Better] = field(default_factory=dict)
    precision: str = "ieee"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with these schedules and their kernels; the ledger says why."""
        changed = {op: b for op, b in self.better.items() if b.schedule != Schedule.from_attrs(op.attrs)}
        if not changed:
            return graph
        for op, better in changed.items():
            names = [v.name for v in op.outputs]
            ctx.ledger.add("rescheduled", rule="measured", values=names, reason=better.reason, locs=[op.loc])
        return replace(graph, ops=tuple(self._changed(op, changed.get(op)) for op in graph.ops))

    def _changed(self, op: Op, better: Better | None) -> Op:
        return op if better is None else Lower(self.precision).lower(rescheduled(op, better.schedule))
