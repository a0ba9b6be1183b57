"""Pass ``reciprocals``: a division by a number becomes a multiplication by its reciprocal.

A correctly rounded division costs a GPU ten instructions, a multiplication one, and its factor can take further ones.
It is done in regions that read or write narrow floats: the product is rounded twice in fp32, which only fp32 results
would show. Before and after::

    %n = constant(value=8.5)                      %n_reciprocal = constant(value=0.11764705882352941)
    %t = pointwise.div(%scores, expand(%n))       %t = pointwise.mul(%scores, expand(%n_reciprocal))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.dtypes import F32
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_narrow
from rooftile.passes.liveness import live_ops

# Within these ends neither the number nor its reciprocal is subnormal, infinite or rounded to nothing in fp32.
LEAST, GREATEST = 2.0**-100, 2.0**100


@dataclass(frozen=True)
class Reciprocals:
    """Rewrites divisions by numbers in regions on narrow floats."""

    name: ClassVar[str] = "reciprocals"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where nothing is divided by a number."""
        bodies = {op.regions[0]: multiplied(op.regions[0]) for op in graph.ops if op.name == "region"}
        if all(new is old for old, new in bodies.items()):
            return graph
        ops = (replace(op, regions=(bodies[op.regions[0]], *op.regions[1:])) if op.regions else op for op in graph.ops)
        return replace(graph, ops=tuple(ops))


def multiplied(body: Graph) -> Graph:
    """``body`` with products for its fp32 divisions by numbers; the same object where there are none."""
    if not any(is_narrow(v.dtype) for v in (*body.inputs, *body.outputs)):
        return body
    producers = body.producers()
    divisions = frozenset(op for op in body.ops if _divisor(op, producers) is not None)
    if not divisions:
        return body
    ops = [new for op in body.ops for new in (_product(op, producers) if op in divisions else (op,))]
    return replace(body, ops=tuple(live_ops(ops, body.outputs)))


def _divisor(op: Op, producers: Mapping[Value, Op]) -> float | None:
    """The number that ``op`` divides by; None where it is no such division, or the reciprocal would not do."""
    if op.attrs.get("fn") != "div" or op.output.dtype is not F32:
        return None
    source = list(_way_to_number(op, producers))[-1:]
    value = float(source[0].attrs["value"]) if source and source[0].name == "constant" else 0.0
    return value if LEAST <= abs(value) <= GREATEST else None


def _way_to_number(division: Op, producers: Mapping[Value, Op]) -> Iterator[Op]:
    """What makes the divisor: the op that spreads a number, and the number."""
    op = producers.get(division.inputs[1])
    while op is not None:
        yield op
        op = producers.get(op.inputs[0]) if op.name == "expand" else None


def _product(division: Op, producers: Mapping[Value, Op]) -> tuple[Op, ...]:
    """The ops that multiply by the reciprocal instead."""
    made: list[Op] = []
    for op in reversed(list(_way_to_number(division, producers))):
        output = Value(f"{op.output.name}_reciprocal", op.output.type)
        if op.name == "constant":
            attrs = freeze_attrs({**op.attrs, "value": 1.0 / op.attrs["value"]})
            made.append(replace(op, outputs=(output,), attrs=attrs))
        else:
            made.append(replace(op, inputs=(made[-1].output,), outputs=(output,)))
    operands = (division.inputs[0], made[-1].output)
    return *made, replace(division, inputs=operands, attrs=freeze_attrs({**division.attrs, "fn": "mul"}))
