"""Pass ``pack``: what is computed from weights alone is computed once, and kept.

A region is packed if all that it reads are parameters, buffers and constants, or what other such regions give, as long
as what is kept stays small beside the weights. At run time its results are computed again when a weight has changed::

    region {%inv_freq -> %cos}   ->   region {%inv_freq -> %cos} packed=true
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op, freeze_attrs
from rooftile.passes.base import PassContext
from rooftile.passes.packing import budget, is_packed, lasting_values
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import region_access
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Pack:
    """Marks the regions whose results are kept from call to call."""

    name: ClassVar[str] = "pack"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with the attribute ``packed`` on these regions."""
        lasting, left = lasting_values(graph), budget(graph)
        calls = [op for op in graph.ops if op.name == "extern"]
        shown = {v for op in calls if not is_packed(op) for v in op.inputs}  # an ATen call may write to it
        kept = {v for op in calls if is_packed(op) for v in op.outputs}
        ops: list[Op] = []
        for op in graph.ops:
            bytes = sum(likely(v.type.bytes) for v in op.outputs)
            if op.name == "extern" and is_packed(op):
                _enter_stack(op, bytes, ctx)
            fixed = op.name == "region" and lasting.issuperset(op.outputs)
            ready = kept.union(graph.inputs).issuperset(op.inputs) and shown.isdisjoint(op.outputs)
            if fixed and ready and bytes <= left and permitted("", op.outputs[-1], op.loc):
                kept.update(op.outputs)
                left -= bytes
                op = replace(op, attrs=freeze_attrs({**op.attrs, "packed": True}))
            if fixed:
                _enter(op, bytes, left, ctx)
            ops.append(op)
        return replace(graph, ops=tuple(ops)) if kept else graph


def _enter_stack(op: Op, bytes: int, ctx: PassContext) -> None:
    reason = f"%{op.output.name} is {len(op.inputs)} weights one behind the other: {bytes} bytes beside theirs are kept"
    ctx.ledger.add("packed", rule="stack", values=[op.output.name], reason=reason, bytes=-bytes, locs=[op.loc])


def _enter(op: Op, bytes: int, left: int, ctx: PassContext) -> None:
    price = cost(region_access(op.regions[0])[1], ctx.target)
    values = [v.name for v in op.outputs]
    what = f"{', '.join(f'%{name}' for name in values)} depends on no input but weights"
    if is_packed(op):
        text = f"{what}: {bytes} bytes are kept, {price.seconds * 1e6:.1f} us less in each call by the model"
        ctx.ledger.add("packed", rule="weights", values=values, reason=text, bytes=price.bytes, locs=[op.loc])
    else:
        text = f"{what}, yet {bytes} bytes are more than the {left} that may still be kept"
        ctx.ledger.add("cut", rule="memory", values=values, reason=text, bytes=-price.bytes, locs=[op.loc])
