"""Rule Position on one reduction: where an extreme stands is the least position of an element that equals it.

``argmax_j x_j  =  min_j (j where x_j = max_j x_j, else n)``, for several axes counted as one that no tile can hold
whole; along a single axis, rule Merge carries the position. A NaN is the extreme where there is one, and equals
nothing, so it is looked for by itself.
"""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import I64
from rooftile.ir.scalar import COMBINES, EXTREMES
from rooftile.passes.editing import replaced
from rooftile.passes.rules.steps import Step


def apply(body: Graph, reduction: Op) -> tuple[Graph, tuple[Step, ...]] | None:
    """``body`` with ``reduction`` (an argmax or argmin) as two reductions; None where it gives no position."""
    row = COMBINES.get(str(reduction.attrs.get("fn"))) if reduction.name == "reduce" else None
    if row is None or not row.position:
        return None
    rewritten = replaced(body, reduction, lambda builder: _least_position(builder, reduction, EXTREMES[row.scalar]))
    name, x = f"%{reduction.output.name}", f"%{reduction.inputs[0].name}"
    extreme = EXTREMES[row.scalar]
    step = Step("position", f"{name} = {row.name}({x})", f"{name} = min(position where {x} = {extreme}({x}))")
    return rewritten, (step,)


def _least_position(builder: GraphBuilder, op: Op, extreme: str) -> Value:
    x, (dim,) = op.inputs[0], op.attrs["dims"]
    best = builder.reduce(extreme, x, [dim], keepdim=True)
    found = builder.pointwise("eq", x, best)
    if x.dtype.is_float:
        found = builder.pointwise("or", found, builder.pointwise("isnan", x))
    position = builder.op("iota", (), {"size": x.shape[dim], "dtype": I64})
    least = builder.pointwise("where", found, builder.expand(position, x.shape, (dim,)), builder.size(x.shape[dim]))
    return builder.reduce("min", least, [dim])
