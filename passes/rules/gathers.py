"""Rule Split on a gather: an element of what is computed is the sum of all of them, under the condition that it is that
one.

``y[n, t[n]]  =  sum_v (y[n, v] where v = t[n], else 0)``: a product's element at an index from data takes part in the
sweep over the product's columns, and is not computed again by itself. The index is looked up among the positions first,
where one outside of them is an error, as it is in the gather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from rooftile.ir.builder import IDX, GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, Symbol, axis, of
from rooftile.passes.editing import replaced
from rooftile.passes.rules.spreading import spread
from rooftile.passes.rules.steps import Step


def apply(body: Graph, value: Value) -> tuple[Graph, tuple[Step, ...]] | None:
    """``body`` with a gather from what is computed from ``value`` as a sum; None where there is none."""
    computed = _computed_from(body, value)
    found = (op for op in body.ops if op.name == "gather" and op.inputs[0] in computed and _dim(op) is not None)
    gather = next((op for op in found if op.output.dtype.is_float), None)
    if gather is None:
        return None
    y, index = (f"%{v.name}" for v in gather.inputs)
    step = Step("split", f"%{gather.output.name} = {y} at {index}", f"sum({y} where its position is {index}, else 0)")
    summed = partial(_sum_at_index, op=gather, producers=body.producers())
    return replaced(body, gather, summed), (step,)


def _sum_at_index(builder: GraphBuilder, op: Op, producers: Mapping[Value, Op]) -> Value:
    return _element(builder, op, op.inputs[0], producers)


def _computed_from(body: Graph, value: Value) -> set[Value]:
    found = {value}
    for op in body.ops:
        if found.intersection(op.inputs):
            found.update(op.outputs)
    return found


def _dim(op: Op) -> int | None:
    """The dimension of the data that the one index is read along; None where the others are not the result's axes."""
    if len(op.inputs) != 2:
        return None
    of_data, of_index = op.attrs["maps"]
    along = [d for d, entry in enumerate(of_data) if entry not in _places(op)]
    if len(along) != 1 or not all(entry in _places(op) for entry in of_index):
        return None
    return along[0] if of_data[along[0]] == of(Symbol("idx1")) else None


def _places(op: Op) -> Mapping[Size, int | None]:
    """Which dimension of the result each entry of a map stands for; none for a dimension of size 1."""
    places: dict[Size, int | None] = {axis(name, size): n for n, (name, size) in enumerate(op.attrs["axes"])}
    return {**places, 0: None}


def _element(builder: GraphBuilder, op: Op, value: Value, producers: Mapping[Value, Op]) -> Value:
    """What the gather ``op`` finds in ``value``: found in what that is computed from, down to a sum."""
    dim, made = _dim(op), producers.get(value)
    assert dim is not None
    if made is not None and made.name in ("pointwise", "cast"):
        operands = [_element(builder, op, v, producers) for v in made.inputs]
        return builder.op(made.name, operands, made.attrs)
    if made is not None and made.name == "expand":
        (source,), dims = made.inputs, made.attrs["dims"]
        if dim not in dims or source.shape[dims.index(dim)] == 1:
            places = [_of_map(op, op.attrs["maps"][0])[d] if d != dim else None for d in dims]
            return spread(builder, source, places, op.output.shape)
    return _as_sum(builder, op, value)


def _of_map(op: Op, entries: Sequence[Size]) -> list[int | None]:
    """Where each dimension of an operand stands in the result, with the gathered one behind it."""
    return [_places(op).get(entry, op.output.type.rank) for entry in entries]


def _as_sum(builder: GraphBuilder, op: Op, data: Value) -> Value:
    index, shape, dim = op.inputs[1], op.output.shape, _dim(op)
    assert dim is not None
    wide = (*shape, data.shape[dim])
    of_data, of_index = (_of_map(op, entries) for entries in op.attrs["maps"])
    iota = builder.op("iota", (), {"size": data.shape[dim], "dtype": index.dtype})
    position = builder.expand(iota, wide, (len(shape),))
    here = builder.pointwise("eq", position, spread(builder, _checked(builder, op, iota), of_index, wide))
    zero = builder.constant(0.0, data.dtype)
    chosen = builder.pointwise("where", here, spread(builder, data, of_data, wide), zero)
    return builder.reduce("sum", chosen, [len(shape)])


def _checked(builder: GraphBuilder, op: Op, positions: Value) -> Value:
    """The gather's index as the position that it finds: an error where there is none."""
    index = op.inputs[1]
    axes = [(f"d{d}", size) for d, size in enumerate(index.shape)]
    return builder.gather(positions, [index], axes, [(IDX[1],), tuple(axis(name, size) for name, size in axes)])
