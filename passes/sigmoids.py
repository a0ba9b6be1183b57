"""Pass ``sigmoids``: one and a hyperbolic tangent are twice a sigmoid.

``1 + tanh(u) = 2 * sigmoid(2 * u)``, which takes half the instructions and cancels nothing where ``tanh(u)`` is near
minus one. The two goes into a number that the sum is multiplied by, the other one into a number that ``u`` is, so that
``0.5 * x * (1 + tanh(0.8 * v))`` becomes ``x * sigmoid(1.6 * v)``. Before and after::

    %t = pointwise.tanh(%u)                       %v = pointwise.mul(%u, expand(2))
    %s = pointwise.add(%t, expand(1))             %t = pointwise.sigmoid(%v)
    %h = pointwise.mul(%x, expand(0.5))    ->     %y = pointwise.mul(%x, %t)
    %y = pointwise.mul(%h, %s)

It is done in regions that read or write narrow floats: in fp32 alone, the other rounding would be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F32
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.editing import with_bodies
from rooftile.passes.liveness import live_ops
from rooftile.passes.numbers import number_in
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Sigmoids:
    """Rewrites sums of one and a hyperbolic tangent in regions on narrow floats."""

    name: ClassVar[str] = "sigmoids"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no such sum stands."""
        return with_bodies(graph, with_sigmoids)


def with_sigmoids(body: Graph) -> Graph:
    """``body`` with sigmoids for its fp32 sums of one and a hyperbolic tangent; the same object where there are
    none."""
    if not is_on_narrow_floats(body):
        return body
    producers = body.producers()
    sums = {op: u for op in body.ops if (u := _tangent_s_operand(op, producers)) is not None}
    sums = {op: u for op, u in sums.items() if permitted("tangent", op.output, op.loc)}
    return _rewritten(body, sums, producers) if sums else body


def _rewritten(body: Graph, sums: Mapping[Op, Value], producers: Mapping[Value, Op]) -> Graph:
    builder = GraphBuilder.beside(body)
    halves: dict[Value, Value] = {}
    for op in body.ops:
        with builder.at(op.loc):
            if op in sums:
                inside = _scaled(builder, sums[op], 2.0, producers)
                halves[op.output] = builder.pointwise("sigmoid", inside)
                _ending_in(builder, builder.pointwise("mul", halves[op.output], _number(builder, 2.0, op)), op)
            elif (pair := _half_and_other(op, halves)) is not None:
                half, other = pair
                doubled = _scaled(builder, other, 2.0, producers)
                _ending_in(builder, builder.pointwise("mul", doubled, half), op)
            else:
                builder.ops.append(op)
    return replace(body, ops=tuple(live_ops(builder.ops, body.outputs)))


def _tangent_s_operand(op: Op, producers: Mapping[Value, Op]) -> Value | None:
    """``u`` where ``op`` is ``1 + tanh(u)`` in fp32."""
    if op.attrs.get("fn") != "add" or op.output.dtype is not F32:
        return None
    for value, other in (op.inputs, op.inputs[::-1]):
        made = producers.get(value)
        if made is not None and made.attrs.get("fn") == "tanh" and number_in(other, producers.get) == 1:
            return made.inputs[0]
    return None


def _half_and_other(op: Op, halves: Mapping[Value, Value]) -> tuple[Value, Value] | None:
    """Half of one operand, where ``op`` is a product and that is known, and the other operand."""
    if op.attrs.get("fn") != "mul":
        return None
    pairs = ((halves[v], other) for v, other in (op.inputs, op.inputs[::-1]) if v in halves)
    return next(pairs, None)


def _scaled(builder: GraphBuilder, value: Value, factor: float, producers: Mapping[Value, Op]) -> Value:
    """``factor``, a power of two, times ``value``; a number that it has been multiplied by takes the factor."""
    made, number = producers.get(value), number_in(value, producers.get)
    if number is not None and made is not None:
        return _number(builder, factor * float(number), made)
    if made is not None and made.attrs.get("fn") == "mul":
        for kept, other in (made.inputs, made.inputs[::-1]):
            number = number_in(other, producers.get)
            if number is not None:
                product = factor * float(number)
                return kept if product == 1 else builder.pointwise("mul", kept, _number(builder, product, made))
    return builder.pointwise("mul", value, builder.broadcast(builder.constant(factor, F32), value.shape))


def _number(builder: GraphBuilder, value: float, like: Op) -> Value:
    """``value`` over the dimensions of what ``like`` gives."""
    return builder.broadcast(builder.constant(value, F32), like.output.shape)


def _ending_in(builder: GraphBuilder, last: Value, op: Op) -> None:
    """Let the op that gives ``last``, the builder's latest, give the result of ``op``."""
    assert builder.ops[-1].output is last
    builder.ops[-1] = replace(builder.ops[-1], outputs=op.outputs)
