"""Pass ``reciprocals``: a division by a number becomes a multiplication by its reciprocal.

A correctly rounded division costs a GPU ten instructions, a multiplication one, and its factor can take further ones.
It is done in regions that read or write narrow floats: the product is rounded twice in fp32, which only fp32 results
would show. Before and after::

    %n = constant(value=8.5)                      %constant = constant(value=0.11764705882352941)
    %t = pointwise.div(%scores, expand(%n))       %t = pointwise.mul(%scores, expand(%constant))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.dtypes import F32
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.editing import with_bodies
from rooftile.passes.liveness import live_ops
from rooftile.passes.numbers import number_in
from rooftile.passes.switches import permitted

# Within these ends neither the number nor its reciprocal is subnormal, infinite or rounded to nothing in fp32.
LEAST, GREATEST = 2.0**-100, 2.0**100


@dataclass(frozen=True)
class Reciprocals:
    """Rewrites divisions by numbers in regions on narrow floats."""

    name: ClassVar[str] = "reciprocals"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where nothing is divided by a number."""
        return with_bodies(graph, multiplied)


def multiplied(body: Graph) -> Graph:
    """``body`` with products for its fp32 divisions by numbers; the same object where there are none."""
    if not is_on_narrow_floats(body):
        return body
    producers = body.producers()
    divisors = {op: number for op in body.ops if (number := _divisor(op, producers)) is not None}
    divisors = {op: number for op, number in divisors.items() if permitted("division", op.output, op.loc)}
    if not divisors:
        return body
    builder = GraphBuilder.beside(body)
    for op in body.ops:
        if op not in divisors:
            builder.ops.append(op)
            continue
        with builder.at(op.loc):
            factor = builder.broadcast(builder.constant(1.0 / divisors[op], F32), op.output.shape)
        attrs = freeze_attrs({**op.attrs, "fn": "mul"})
        builder.ops.append(replace(op, inputs=(op.inputs[0], factor), attrs=attrs))
    return replace(body, ops=tuple(live_ops(builder.ops, body.outputs)))


def _divisor(op: Op, producers: Mapping[Value, Op]) -> float | None:
    """The number that ``op`` divides by; None where it is no such division, or the reciprocal would not do."""
    if op.attrs.get("fn") != "div" or op.output.dtype is not F32:
        return None
    value = float(number_in(op.inputs[1], producers.get) or 0.0)
    return value if LEAST <= abs(value) <= GREATEST else None
