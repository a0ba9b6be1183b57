"""Pass ``lower``: a scheduled region becomes a tile-level kernel.

Values are emitted where they are first wanted, in the outermost loop body that runs over all the axes they vary over,
so loop-invariant code never stands in a loop.
Reductions over a ``loop`` axis that don't depend on one another share a sweep; a reduction that needs another's result
takes the next one::

    region  row: grid(4), col: loop(256)          kernel
      %s = reduce.sum(%x) dims=(1)                  loop col { %s += sum(load x) }
      %y = div(%x, expand(%s))                      loop col { store y, load x / %s }
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lowering.kernel import Visits
from rooftile.passes.lowering.region import lower_region
from rooftile.passes.rules.linear import Step


@dataclass(frozen=True)
class Skips:
    """The steps that the sweeps for ``value`` leave out, as applications of rule Skip."""

    value: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Lower:
    """Gives every region op its kernel as a second region. ``precision`` is that of fp32 dots: ``"ieee"``, ``"tf32"``
    or ``"tf32x3"``."""

    name: ClassVar[str] = "lower"
    precision: str = "ieee"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """Lower every scheduled region."""
        scheduled = [op.name == "region" and "roles" in op.attrs for op in graph.ops]
        ops = tuple(self.lower(op, ctx) if is_one else op for op, is_one in zip(graph.ops, scheduled, strict=True))
        return replace(graph, ops=ops)

    def lower(self, op: Op, ctx: PassContext | None = None) -> Op:
        """The region op with its kernel; ``ctx`` is told of the steps that its sweeps skip."""
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
        visits = Visits(op.attrs["visits"], op.inputs[-1].type) if "visits" in op.attrs else None
        kernel, skips = lower_region(body, schedule, str(op.attrs["name"]), self.precision, visits)
        if skips and ctx is not None:
            ctx.derivations.append(Skips(op.outputs[-1].name, skips))
        return replace(op, regions=(body, kernel))
