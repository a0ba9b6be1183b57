"""Along which dimensions a value does not vary, as far as the form of its ops says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size
from rooftile.passes.regions.dims import boundaries, longer


def is_invariant(value: Value, dims: frozenset[int], producers: Mapping[Value, Op]) -> bool:
    """Whether ``value`` is the same at all positions along ``dims``."""
    op = producers.get(value)
    if op is None:
        return all(value.shape[d] == 1 for d in dims)
    if op.name == "constant" or all(value.shape[d] == 1 for d in dims):
        return True
    if op.name in ("pointwise", "cast"):
        return all(is_invariant(v, dims, producers) for v in op.inputs)
    inside = operand_dims(op, dims) if op.name in VIEWS else None
    return inside is not None and is_invariant(op.inputs[0], inside, producers)


def operand_dims(view: Op, dims: frozenset[int]) -> frozenset[int] | None:
    """The dimensions of what ``view`` shows that run along ``dims`` of its result; None where some run along these and
    others at once."""
    row = VIEWS.get(view.name)
    return row(view, dims) if row else None


def _permuted(view: Op, dims: frozenset[int]) -> frozenset[int] | None:
    return frozenset(view.attrs["perm"][d] for d in dims)


def _expanded(view: Op, dims: frozenset[int]) -> frozenset[int] | None:
    return frozenset(d for d, out in enumerate(view.attrs["dims"]) if out in dims and view.inputs[0].shape[d] != 1)


def _sliced(view: Op, dims: frozenset[int]) -> frozenset[int] | None:
    return dims


def _reshaped(view: Op, dims: frozenset[int]) -> frozenset[int] | None:
    x, out = view.inputs[0], view.output
    before, after = boundaries(x.shape), boundaries(out.shape)
    inside: set[int] = set()
    for start, end in pairwise(size for size in before if size in after):
        merged = _between(out.shape, after[start], after[end])
        if dims.issuperset(merged):
            inside.update(_between(x.shape, before[start], before[end]))
        elif not dims.isdisjoint(merged):
            return None
    return frozenset(inside)


def _between(shape: Sequence[Size], first: int, last: int) -> list[int]:
    return longer(shape)[first:last]


VIEWS: Mapping[str, Callable[[Op, frozenset[int]], frozenset[int] | None]] = {
    "permute": _permuted,
    "expand": _expanded,
    "slice": _sliced,
    "reshape": _reshaped,
}
