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
from rooftile.passes.lowering.region import lower_region


@dataclass(frozen=True)
class Lower:
    """Gives every region op its kernel as a second region. ``precision`` is that of fp32 dots: ``"ieee"``, ``"tf32"``
    or ``"tf32x3"``."""

    name: ClassVar[str] = "lower"
    precision: str = "ieee"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """Lower every scheduled region."""
        ops = tuple(self.lower(op) if op.name == "region" and "roles" in op.attrs else op for op in graph.ops)
        return replace(graph, ops=ops)

    def lower(self, op: Op) -> Op:
        """The region op with its kernel."""
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
        kernel = lower_region(body, schedule, str(op.attrs["name"]), self.precision)
        return replace(op, regions=(body, kernel))
