"""Rule Count: the segment that a position lies in is the number of ends at or before it.

``segment(ends)[t] = sum_s [ends_s <= t]``, which any kernel computes for each position alone; where a tile lies in one
segment, as along a ragged axis, nothing of the kind is needed.
"""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.editing import replaced
from rooftile.passes.rules.steps import Step


def apply(body: Graph, segment: Value) -> tuple[Graph, tuple[Step, ...]]:
    """``body`` with ``segment``, the numbers of segments, written out as sums."""
    op = body.producers()[segment]
    rewritten = replaced(body, op, lambda builder: _count(builder, op))
    name, ends = f"%{segment.name}", f"%{op.inputs[0].name}"
    return rewritten, (Step("count", f"{name} = segment({ends})", f"{name} = sum({ends} <= position)"),)


def _count(builder: GraphBuilder, op: Op) -> Value:
    (ends,), size = op.inputs, op.attrs["size"]
    shape = (size, ends.shape[0])
    position = builder.op("iota", (), {"size": size, "dtype": ends.dtype})
    passed = builder.pointwise("le", builder.expand(ends, shape, (1,)), builder.expand(position, shape, (0,)))
    return builder.reduce("sum", builder.cast(passed, ends.dtype), [1])
