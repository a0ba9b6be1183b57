"""Views of views become one view, and views that do nothing vanish."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, equal, equal_shapes
from rooftile.ir.scalar import COMBINES
from rooftile.passes.canonical.repeated import is_repetition
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules


def _same_elements(op: Op, _: Rewriter) -> Value | None:
    """The result has its operand's shape, and with that its elements."""
    return op.inputs[0] if equal_shapes(op.inputs[0].shape, op.output.shape) else None


def _same_order(op: Op, _: Rewriter) -> Value | None:
    return op.inputs[0] if list(op.attrs["perm"]) == list(range(op.output.type.rank)) else None


def _whole(op: Op, _: Rewriter) -> Value | None:
    """As many elements as there are, not backwards: all of them."""
    forward = all(step == 1 or size == 1 for step, size in zip(op.attrs["steps"], op.attrs["sizes"], strict=True))
    return op.inputs[0] if forward and equal_shapes(op.inputs[0].shape, op.output.shape) else None


def _permute_of_permute(op: Op, rw: Rewriter) -> Make | None:
    inner = rw.made_by(op.inputs[0], "permute")
    if inner is None:
        return None
    return Make("permute", inner.inputs, {"perm": tuple(inner.attrs["perm"][p] for p in op.attrs["perm"])})


def _reshape_of_reshape(op: Op, rw: Rewriter) -> Make | None:
    inner = rw.made_by(op.inputs[0], "reshape")
    return Make("reshape", inner.inputs, op.attrs) if inner is not None else None


def _expand_of_expand(op: Op, rw: Rewriter) -> Make | None:
    inner = rw.made_by(op.inputs[0], "expand")
    if inner is None:
        return None
    dims = tuple(op.attrs["dims"][d] for d in inner.attrs["dims"])
    return Make("expand", inner.inputs, {"shape": op.attrs["shape"], "dims": dims})


def _expand_of_unsqueeze(op: Op, rw: Rewriter) -> Make | None:
    """An expand places the dimensions of size 1 that a reshape inserted by itself."""
    inner = rw.made_by(op.inputs[0], "reshape")
    kept = inserted_ones(inner.inputs[0].shape, inner.output.shape) if inner is not None else None
    if inner is None or kept is None:
        return None
    dims = tuple(op.attrs["dims"][d] for d in kept)
    return Make("expand", inner.inputs, {"shape": op.attrs["shape"], "dims": dims})


def inserted_ones(before: Sequence[Size], after: Sequence[Size]) -> tuple[int, ...] | None:
    """Where each dim of ``before`` stands in ``after``, if ``after`` has but further dims of size 1; None if not."""
    kept: list[int] = []
    for d, size in enumerate(after):
        if len(kept) < len(before) and equal(size, before[len(kept)]):
            kept.append(d)
        elif size != 1:
            return None
    return tuple(kept) if len(kept) == len(before) else None


def _expand_by_ones(op: Op, rw: Rewriter) -> Make | None:
    """An expand that repeats nothing is a reshape. A number is always expanded, so that rules know it by its form."""
    x, dims = op.inputs[0], op.attrs["dims"]
    if rw.made_by(x, "constant"):
        return None
    shape = op.output.shape
    new = [d for d in range(len(shape)) if d not in dims]
    same = all(equal(size, shape[d]) for size, d in zip(x.shape, dims, strict=True))
    return Make("reshape", [x], {"shape": shape}) if same and all(shape[d] == 1 for d in new) else None


def _slice_of_slice(op: Op, rw: Rewriter) -> Make | None:
    inner = rw.made_by(op.inputs[0], "slice")
    if inner is None:
        return None
    starts = tuple(
        add(first, mul(step, start))
        for first, step, start in zip(inner.attrs["starts"], inner.attrs["steps"], op.attrs["starts"], strict=True)
    )
    steps = tuple(a * b for a, b in zip(inner.attrs["steps"], op.attrs["steps"], strict=True))
    return Make("slice", inner.inputs, {"starts": starts, "sizes": op.attrs["sizes"], "steps": steps})


def _slice_of_concat(op: Op, rw: Rewriter) -> Make | None:
    """A slice that stays inside one piece is a slice of that piece."""
    concat = rw.made_by(op.inputs[0], "concat")
    if concat is None:
        return None
    dim = concat.attrs["dim"]
    start, size, step = (op.attrs[name][dim] for name in ("starts", "sizes", "steps"))
    last = add(start, mul(step, add(size, -1)))
    offset: Size = 0
    for piece in concat.inputs:
        end = add(offset, piece.shape[dim])
        if at_least(size, 1) and all(_between(offset, position, end) for position in (start, last)):
            starts = list(op.attrs["starts"])
            starts[dim] = add(start, mul(offset, -1))
            return Make("slice", [piece], {**op.attrs, "starts": tuple(starts)})
        offset = end
    return None


def _between(low: Size, position: Size, end: Size) -> bool:
    return at_least(add(position, mul(low, -1)), 0) and at_least(add(end, mul(position, -1)), 1)


def _concat_of_one(op: Op, _: Rewriter) -> Value | Make | None:
    """Pieces of size 0 add nothing."""
    pieces = [v for v in op.inputs if v.shape[op.attrs["dim"]] != 0]
    if len(pieces) == 1:
        return pieces[0]
    return Make("concat", pieces, op.attrs) if 0 < len(pieces) < len(op.inputs) else None


def _concat_of_pieces(op: Op, rw: Rewriter) -> Make | None:
    """Pieces of another concatenation along the same dim, taken whole, are put in its place: rows that are written into
    a result one after another are one concatenation, not one for each."""
    dim = op.attrs["dim"]
    pieces = [piece for v in op.inputs for piece in _whole_pieces(v, dim, rw)]
    return Make("concat", pieces, op.attrs) if len(pieces) > len(op.inputs) else None


def _whole_pieces(value: Value, dim: int, rw: Rewriter) -> Sequence[Value]:
    """The pieces along ``dim`` that make up ``value``: itself where it is no concatenation, or not of whole pieces."""
    cut = rw.made_by(value, "slice")
    concat = rw.made_by(value if cut is None else cut.inputs[0], "concat")
    if concat is None or concat.attrs["dim"] != dim or is_repetition(concat):
        return [value]
    if cut is None:
        return concat.inputs
    starts, sizes, steps = (cut.attrs[name] for name in ("starts", "sizes", "steps"))
    others = (d for d in range(len(sizes)) if d != dim)
    if set(steps) != {1} or not all(equal(sizes[d], concat.output.shape[d]) for d in others):
        return [value]
    found: list[Value] = []
    offset: Size = 0
    end = add(starts[dim], sizes[dim])
    for piece in concat.inputs:
        if found or equal(offset, starts[dim]):
            if equal(offset, end):
                break
            found.append(piece)
        offset = add(offset, piece.shape[dim])
    return found if found and equal(offset, end) else [value]


def _reduce_over_one(op: Op, rw: Rewriter) -> Value | Make | None:
    """A reduction over dims of size 1 is a reshape; those of its dims that are longer are still reduced."""
    (x,), dims, fn = op.inputs, op.attrs["dims"], op.attrs["fn"]
    ones = [d for d in dims if x.shape[d] == 1]
    if COMBINES[fn].position or (dims and not ones):
        return None
    shape = tuple(size for d, size in enumerate(x.shape) if d not in ones)
    if len(ones) == len(dims):
        return Make("reshape", [x], {"shape": shape})
    longer = tuple(d - sum(one < d for one in ones) for d in dims if d not in ones)
    return Make("reduce", [rw.emit("reshape", [x], {"shape": shape})], {"fn": fn, "dims": longer})


VIEW_RULES: Rules = {
    "permute": (_same_order, _permute_of_permute),
    "reshape": (_same_elements, _reshape_of_reshape),
    "expand": (_same_elements, _expand_of_expand, _expand_of_unsqueeze, _expand_by_ones),
    "slice": (_whole, _slice_of_slice, _slice_of_concat),
    "pad": (_same_elements,),
    "concat": (_concat_of_one, _concat_of_pieces),
    "reduce": (_reduce_over_one,),
}
