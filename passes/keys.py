"""Pass ``keys``: integers are sorted in the narrowest type that holds them.

A GPU sorts them digit by digit, eight bits at a time, so that the numbers of a hundred experts take one round instead
of the eight of 64-bit integers. Only calls that sort are looked at, and what is known of their operand's interval.
Before and after, where ``%x`` lies in 0..99::

    %y, %order = extern(%x, target="aten.sort.default", ...) : i64[n], i64[n]

    %x_1 = cast(%x) : i8[n]
    %y_1, %order = extern(%x_1, target="aten.sort.default", ...) : i8[n], i64[n]
    %y = cast(%y_1) : i64[n]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.dtypes import I8, I16, I32, U8, DType
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.intervals import Interval, interval
from rooftile.passes.editing import rewritten
from rooftile.passes.switches import permitted

NARROW = (I8, U8, I16, I32)
# The calls that sort their first operand, and which of their results holds its elements.
SORTS: Mapping[str, int | None] = {
    "aten.sort.default": 0,
    "aten.sort.stable": 0,
    "aten.argsort.default": None,
    "aten.argsort.stable": None,
}


@dataclass(frozen=True)
class Keys:
    """Casts what ATen sorts, and its result back."""

    name: ClassVar[str] = "keys"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with narrower operands of sorts; the same one where none can be narrower."""
        producers = graph.producers()
        found = {
            op: dtype
            for op in graph.ops
            if (dtype := _narrower(op, producers)) and permitted("", op.outputs[0], op.loc)
        }
        if not found:
            return graph
        for op, dtype in found.items():
            reason = f"%{op.inputs[0].name} is sorted as {dtype.name}, which holds all that it can be"
            ctx.ledger.add("rewritten", rule="keys", values=[op.outputs[0].name], reason=reason, locs=[op.loc])
        return rewritten(graph, found, lambda builder, op: _sort(builder, op, found[op]))


def _narrower(op: Op, producers: Mapping[Value, Op]) -> DType | None:
    """The narrowest type for what ``op`` sorts, if it is narrower than the one that it has."""
    if op.name != "extern" or op.attrs["target"] not in SORTS or not op.inputs or op.inputs[0].dtype.kind != "int":
        return None
    x = op.inputs[0]
    bounds = interval(x, producers.get)
    return next((d for d in NARROW if d.bytes < x.dtype.bytes and _holds(d, bounds)), None)


def _holds(dtype: DType, bounds: Interval) -> bool:
    low, high = dtype.limits
    return low <= bounds[0] and bounds[1] <= high


def _sort(builder: GraphBuilder, op: Op, dtype: DType) -> None:
    """``op`` on its operand as ``dtype``."""
    keys = builder.cast(op.inputs[0], dtype)
    number = SORTS[str(op.attrs["target"])]
    outputs, types = list(op.outputs), list(op.attrs["types"])
    if number is not None:
        wide = op.outputs[number]
        outputs[number] = Value(builder.fresh(wide.name), replace(wide.type, dtype=dtype))
        types[number] = (dtype, types[number][1])
    attrs = freeze_attrs({**op.attrs, "types": tuple(types)})
    builder.ops.append(replace(op, inputs=(keys, *op.inputs[1:]), outputs=tuple(outputs), attrs=attrs))
    if number is not None:
        builder.cast(outputs[number], wide.dtype)
        builder.ops[-1] = replace(builder.ops[-1], outputs=(wide,))
