"""Pass ``reciprocals``: a division by a number, or by one number for many elements, becomes a multiplication by its
reciprocal.

A correctly rounded division costs a GPU ten instructions, a multiplication one, and its factor can take further ones.
It is done in regions that read or write narrow floats: the product is rounded twice in fp32, which only fp32 results
would show. Before and after::

    %n = constant(value=8.5)                      %constant = constant(value=0.11764705882352941)
    %t = pointwise.div(%scores, expand(%n))       %t = pointwise.mul(%scores, expand(%constant))

    %sum = reduce.sum(%exp, dims=[1])             %scaled = pointwise.mul(%sum, %scale)
    %p = pointwise.div(%v, expand(%sum))          %reciprocal = pointwise.div(1.0, %scaled)
                                                  %t = pointwise.mul(%v, expand(%reciprocal))
                                                  %p = pointwise.mul(%t, expand(%scale))

The scale is a power of two that takes divisors which are nearly subnormal, or whose reciprocal is, away from there; 1
for all others. A quotient that a reduction reads stays, since the rules of sweeps know divisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.dtypes import F32
from rooftile.ir.expr import Size
from rooftile.ir.ranges import at_least
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.editing import rewritten, with_bodies
from rooftile.passes.numbers import number_in
from rooftile.passes.switches import permitted

# Within these ends neither the number nor its reciprocal is subnormal, infinite or rounded to nothing in fp32.
LEAST, GREATEST = 2.0**-100, 2.0**100
SCALE = 2.0**64  # takes any other finite number but 0 inside, or to where the quotient is rounded to nothing anyway
MANY = 8  # elements with one divisor, from which on its reciprocal costs less than their divisions


@dataclass(frozen=True)
class Reciprocals:
    """Rewrites divisions by numbers, and by one for many elements, in regions on narrow floats."""

    name: ClassVar[str] = "reciprocals"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where there is nothing to rewrite."""
        return with_bodies(graph, multiplied)


def multiplied(body: Graph) -> Graph:
    """``body`` with products for its fp32 divisions by numbers and rows; the same object where there are none."""
    if not is_on_narrow_floats(body):
        return body
    producers, reduced = body.producers(), _reduced(body)
    divisions = [op for op in body.ops if op.attrs.get("fn") == "div" and op.output.dtype is F32]
    numbers = {op: number for op in divisions if (number := _number(op, producers)) is not None}
    rows = {op: row for op in divisions if op.output not in reduced and (row := _row(op, producers)) is not None}
    chosen = {op for op in divisions if (op in numbers or op in rows) and permitted("division", op.output, op.loc)}
    if not chosen:
        return body

    def multiply(builder: GraphBuilder, op: Op) -> None:
        value = op.inputs[0]
        if op in numbers:
            factor = builder.broadcast(builder.constant(1.0 / numbers[op], F32), op.output.shape)
        else:
            reciprocal, factor = _factors(builder, rows[op])
            value = builder.pointwise("mul", value, reciprocal)
        attrs = freeze_attrs({**op.attrs, "fn": "mul"})
        builder.ops.append(replace(op, inputs=(value, factor), attrs=attrs))

    return rewritten(body, chosen, multiply)


def _factors(builder: GraphBuilder, spread: Op) -> tuple[Value, Value]:
    """The two factors, expanded as ``spread`` expands its operand, by which a value is multiplied instead of divided by
    that: a reciprocal, and the power of two by which it was scaled."""
    (divisor,) = spread.inputs
    size = builder.pointwise("abs", divisor)

    def number(value: float) -> Value:
        return builder.broadcast(builder.constant(value, F32), divisor.shape)

    small = builder.pointwise("where", builder.pointwise("lt", size, number(LEAST)), number(SCALE), number(1.0))
    large = builder.pointwise("gt", size, number(GREATEST))
    scale = builder.pointwise("where", large, number(1.0 / SCALE), small)
    reciprocal = builder.pointwise("div", number(1.0), builder.pointwise("mul", divisor, scale))
    shape, dims = spread.output.shape, spread.attrs["dims"]
    return builder.expand(reciprocal, shape, dims), builder.expand(scale, shape, dims)


def _number(op: Op, producers: Mapping[Value, Op]) -> float | None:
    """The number that the division ``op`` divides by; None where there is none, or its reciprocal would not do."""
    value = float(number_in(op.inputs[1], producers.get) or 0.0)
    return value if LEAST <= abs(value) <= GREATEST else None


def _row(op: Op, producers: Mapping[Value, Op]) -> Op | None:
    """The op that spreads what the division ``op`` divides by over ``MANY`` elements or more; None if there is none."""
    spread = producers.get(op.inputs[1])
    if spread is None or spread.name != "expand" or number_in(op.inputs[1], producers.get) is not None:
        return None
    kept = frozenset(spread.attrs["dims"])
    new: Size = prod((size for d, size in enumerate(spread.output.shape) if d not in kept), start=1)
    return spread if at_least(new, MANY) else None


def _reduced(body: Graph) -> set[Value]:
    """The values that a reduction or a contraction needs."""
    found: set[Value] = set()
    for op in reversed(body.ops):
        if op.name in ("reduce", "contract") or found.intersection(op.outputs):
            found.update(op.inputs)
    return found
