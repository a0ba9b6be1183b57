"""Pass ``sigmoids``: one and a curve from minus one to one are a curve that starts from zero.

``1 + tanh(u) = 2 * sigmoid(2 * u)`` and ``1 + erf(u) = erfc(-u)``, which take half the instructions and cancel nothing
where the curve is near minus one. The numbers go into one that the sum is multiplied by, and into one that ``u`` is, so
that ``0.5 * x * (1 + tanh(0.8 * v))`` becomes ``x * sigmoid(1.6 * v)``. Before and after::

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
class _Curve:
    """``1 + f(u)`` as ``outside * fn(inside * u)``; both are powers of two, or such with a sign."""

    fn: str
    inside: float
    outside: float


CURVES: Mapping[str, _Curve] = {"tanh": _Curve("sigmoid", 2.0, 2.0), "erf": _Curve("erfc", -1.0, 1.0)}


@dataclass(frozen=True)
class Sigmoids:
    """Rewrites sums of one and such a curve in regions on narrow floats."""

    name: ClassVar[str] = "sigmoids"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no such sum stands."""
        return with_bodies(graph, with_sigmoids)


def with_sigmoids(body: Graph) -> Graph:
    """``body`` without its fp32 sums of one and a curve from minus one; the same object where there are none."""
    if not is_on_narrow_floats(body):
        return body
    producers = body.producers()
    sums = {op: made for op in body.ops if (made := _curve_in(op, producers)) is not None}
    sums = {op: made for op, made in sums.items() if permitted("sum", op.output, op.loc)}
    return _rewritten(body, sums, producers) if sums else body


def _rewritten(body: Graph, sums: Mapping[Op, Op], producers: Mapping[Value, Op]) -> Graph:
    builder = GraphBuilder.beside(body)
    parts: dict[Value, tuple[Value, float]] = {}  # of each sum, the new curve and what it is multiplied by
    for op in body.ops:
        with builder.at(op.loc):
            if op in sums:
                curve = CURVES[sums[op].attrs["fn"]]
                new = builder.pointwise(curve.fn, _scaled(builder, sums[op].inputs[0], curve.inside, producers))
                parts[op.output] = new, curve.outside
                if curve.outside != 1:
                    new = builder.pointwise("mul", new, _number(builder, curve.outside, op))
                _ending_in(builder, new, op)
            elif (pair := _part_and_other(op, parts)) is not None:
                (new, factor), other = pair
                _ending_in(builder, builder.pointwise("mul", _scaled(builder, other, factor, producers), new), op)
            else:
                builder.ops.append(op)
    return replace(body, ops=tuple(live_ops(builder.ops, body.outputs)))


def _curve_in(op: Op, producers: Mapping[Value, Op]) -> Op | None:
    """The op that makes the curve, where ``op`` is one and it in fp32."""
    if op.attrs.get("fn") != "add" or op.output.dtype is not F32:
        return None
    for value, other in (op.inputs, op.inputs[::-1]):
        made = producers.get(value)
        if made is not None and made.attrs.get("fn") in CURVES and number_in(other, producers.get) == 1:
            return made
    return None


def _part_and_other(op: Op, parts: Mapping[Value, tuple[Value, float]]) -> tuple[tuple[Value, float], Value] | None:
    """Where ``op`` is the product of such a sum and another operand: the new curve with its factor, and the other."""
    if op.attrs.get("fn") != "mul":
        return None
    pairs = ((parts[v], other) for v, other in (op.inputs, op.inputs[::-1]) if v in parts and parts[v][1] != 1)
    return next(pairs, None)


def _scaled(builder: GraphBuilder, value: Value, factor: float, producers: Mapping[Value, Op]) -> Value:
    """``factor``, which rounds nothing, times ``value``; a number that it has been multiplied by takes the factor."""
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
