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
            if is_packed(op) and fixed:
                _enter(op, bytes, ctx)
            elif fixed and ready and bytes > left:
                _enter_cut(op, "memory", f"{bytes} bytes are more than the {left} that may still be kept", ctx)
            elif fixed and not shown.isdisjoint(op.outputs):
                _enter_cut(op, "call", "an ATen call reads it, and may write to what it reads", ctx)
            ops.append(op)
        return replace(graph, ops=tuple(ops)) if kept else graph


def _enter_stack(op: Op, bytes: int, ctx: PassContext) -> None:
    reason = f"%{op.output.name} is {len(op.inputs)} weights one behind the other: {bytes} bytes beside theirs are kept"
    ctx.ledger.add("packed", rule="stack", values=[op.output.name], reason=reason, bytes=-bytes, locs=[op.loc])


def _enter(op: Op, bytes: int, ctx: PassContext) -> None:
    price = cost(region_access(op.regions[0])[1], ctx.target)
    saved = f"{price.seconds * 1e6:.1f} us less in each call by the model"
    reason = f"{_lasting(op)}: {bytes} bytes are kept, {saved}"
    ctx.ledger.add("packed", rule="weights", values=_names(op), reason=reason, bytes=price.bytes, locs=[op.loc])


def _enter_cut(op: Op, rule: str, why: str, ctx: PassContext) -> None:
    price = cost(region_access(op.regions[0])[1], ctx.target)
    reason = f"{_lasting(op)}, yet {why}"
    ctx.ledger.add("cut", rule=rule, values=_names(op), reason=reason, bytes=-price.bytes, locs=[op.loc])


def _names(op: Op) -> list[str]:
    return [v.name for v in op.outputs]


def _lasting(op: Op) -> str:
    return f"{', '.join(f'%{name}' for name in _names(op))} depends on no input but weights"
