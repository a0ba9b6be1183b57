"""Pass ``lower``: a scheduled region becomes a tile-level kernel.

Values are emitted where they are first wanted, in the outermost loop body that runs over all the axes they vary over,
so loop-invariant code never stands in a loop. Reductions over a ``loop`` axis that don't depend on one another share a
sweep; a reduction that needs another's result takes the next one::

    region  row: grid(4), col: loop(256)          kernel
      %s = reduce.sum(%x) dims=(1)                  loop col { %s += sum(load x) }
      %y = div(%x, expand(%s))                      loop col { store y, load x / %s }
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.ir.structure import Structures, attrs_key
from rooftile.passes.base import PassContext
from rooftile.passes.distinct import Distinct
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.lowering.kernel import Visits
from rooftile.passes.lowering.region import lower_region
from rooftile.passes.rules.steps import Step

Lowered: TypeAlias = tuple[Graph, tuple[Step, ...]]  # a kernel, and the steps that its sweeps skip


@dataclass(frozen=True)
class Skips:
    """The steps that the sweeps for ``value`` leave out, as applications of rule Skip."""

    value: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Lower:
    """Gives every region op its kernel as a second region. ``precision`` is that of fp32 dots: ``"tf32x3"``,
    ``"tf32"`` or ``"ieee"``, which takes no tensor cores."""

    name: ClassVar[str] = "lower"
    precision: str = EXACT_FP32

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """Lower every scheduled region."""
        known = Distinct[Lowered](ctx.structures)
        scheduled = [op.name == "region" and "roles" in op.attrs for op in graph.ops]
        ops = (self.lower(op, ctx, known) if is_one else op for op, is_one in zip(graph.ops, scheduled, strict=True))
        return replace(graph, ops=tuple(ops))

    def lower(self, op: Op, ctx: PassContext | None = None, known: Distinct[Lowered] | None = None) -> Op:
        """The region op with its kernel, after that of one like it if that is ``known``; ``ctx`` is told of the steps
        that its sweeps skip."""
        body, schedule, name = op.regions[0], Schedule.from_attrs(op.attrs), str(op.attrs["name"])
        visits = Visits(op.attrs["visits"], op.inputs[-1].type) if "visits" in op.attrs else None
        besides = attrs_key(schedule.attrs()), visits
        (kernel, skips), alike = (known or Distinct(Structures(named=True))).of(
            body, lambda: lower_region(body, schedule, name, self.precision, visits), besides
        )
        if alike is not None:
            kernel = alike.copies(set()).graph(kernel, name)
            skips = alike.steps(skips)
        if skips and ctx is not None:
            ctx.derivations.append(Skips(op.outputs[-1].name, skips))
        return replace(op, regions=(body, kernel))
