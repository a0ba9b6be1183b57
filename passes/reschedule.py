"""Pass ``reschedule``: regions that have a better schedule than the model's first choice get it, and its kernel.

It is no part of the pipeline: what is better was measured, so the lowered graph and a GPU were there before::

    region  roles ((i, grid, 128), (j, grid, 256), (k, loop, 64))  ->  roles ((i, grid, 128), (j, grid, 128), ...)

Where a library was faster, the region becomes ATen calls and a region of the rest; where its sweep was faster
in parts, a region of these and one that merges them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias

from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.liveness import live_ops
from rooftile.passes.lower import Lower
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.schedules.library import Library, library_ops
from rooftile.passes.schedules.override import rescheduled, untold
from rooftile.passes.splitting.choice import InParts, part_ops
from rooftile.passes.summarize import Around, Summarize
from rooftile.target import Target

# How a region is run.
Choice: TypeAlias = "Schedule | Library | InParts"


@dataclass(frozen=True)
class Better:
    """A schedule, or a library's kernels, or a sweep in parts, and the reason in words."""

    schedule: Choice
    reason: str


@dataclass(frozen=True)
class Reschedule:
    """``better`` says what to change, by region op; fp32 dots have ``precision``, as in ``Lower``."""

    name: ClassVar[str] = "reschedule"
    better: Mapping[Op, Better] = field(default_factory=dict)
    precision: str = EXACT_FP32

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with these schedules and their kernels; the ledger says why."""
        changed = {op: b for op, b in self.better.items() if b.schedule != Schedule.from_attrs(op.attrs)}
        if not changed:
            return graph
        for op, better in changed.items():
            values = [v.name for v in op.outputs]
            ctx.ledger.add("rescheduled", rule="measured", values=values, reason=better.reason, locs=[op.loc])
        around = Around.of(graph, ctx.structures)
        ops: list[Op] = []
        for op in graph.ops:
            ops += self.changed(op, changed[op].schedule, around, ctx) if op in changed else (op,)
        return replace(graph, ops=tuple(live_ops(ops, graph.outputs)))

    def changed(self, op: Op, choice: Choice, around: Around, ctx: PassContext) -> tuple[Op, ...]:
        """The ops that compute the region ``op`` as ``choice`` says, behind a new look at its mask where there was
        one."""
        if "visits" in op.attrs and isinstance(choice, Schedule):
            told = Summarize().summarized(rescheduled(op, choice), around, ctx)
            return tuple(Lower(self.precision).lower(each) for each in told)
        made = chosen(op, choice, self.precision, ctx.target, around.taken)
        around.taken.update(v.name for each in made for v in each.outputs)
        return made


def chosen(op: Op, choice: Choice, precision: str, target: Target, names: Collection[str]) -> tuple[Op, ...]:
    """The lowered ops that compute the region ``op`` as ``choice`` says, which are told nothing of its mask; ``names``
    are those of the graph around."""
    if isinstance(choice, Schedule):
        return (Lower(precision).lower(rescheduled(op, choice)),)
    if isinstance(choice, InParts):
        parts = part_ops(untold(op), choice.count, target, names)
    else:
        parts = library_ops(untold(op), choice, target, names)
    return tuple(part if part.name == "extern" else Lower(precision).lower(part) for part in parts)
