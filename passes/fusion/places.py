"""Parts of tensors that differ in nothing but where they lie: what is computed from either has the same price.

A loop over chunks is traced as so many slices of the same tensors, and kernels that each read one of them. Where a
slice starts decides nothing if whatever it is cut from is computed alike everywhere along that dimension: element by
element of what is read, and from no position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, axis
from rooftile.ir.polynomial import mul

Producers: TypeAlias = Mapping[Value, Op]


def at_first_places(body: Graph) -> Graph:
    """``body`` with the starts of such slices replaced by their ranks among those along dimensions of one size: equal
    for bodies whose slices lie at other places in the same order. It is for comparing alone: no slice means a place."""
    if not any(op.name == "slice" and any(start != 0 for start in op.attrs["starts"]) for op in body.ops):
        return body
    producers = body.producers()
    starts: dict[Size, set[int]] = {}
    chosen: dict[Op, list[int]] = {}
    for op in body.ops:
        if op.name == "slice" and (dims := _movable(op, producers)):
            chosen[op] = dims
            for d in dims:
                starts.setdefault(op.inputs[0].shape[d], set()).add(op.attrs["starts"][d])
    ranks = {size: {start: n for n, start in enumerate(sorted(found))} for size, found in starts.items()}

    def ranked(op: Op) -> Op:
        places = list(op.attrs["starts"])
        for d in chosen[op]:
            places[d] = ranks[op.inputs[0].shape[d]][places[d]]
        return replace(op, attrs={**op.attrs, "starts": tuple(places)})

    return replace(body, ops=tuple(ranked(op) if op in chosen else op for op in body.ops)) if chosen else body


def _movable(op: Op, producers: Producers) -> list[int]:
    """The dimensions along which a slice is a part that might as well lie elsewhere."""
    (x,) = op.inputs
    parts = (d for d, (part, whole) in enumerate(zip(op.output.shape, x.shape, strict=True)) if part != whole)
    known = (d for d in parts if isinstance(op.attrs["starts"][d], int))
    return [d for d in known if is_alike_along(x, d, producers)]


def is_alike_along(x: Value, d: int, producers: Producers) -> bool:
    """Whether the elements of ``x`` along dimension ``d`` are one function of what is read at theirs."""
    op = producers.get(x)
    return op is None or (op.name in _ALONG and _ALONG[op.name](op, d, producers))


def _elementwise(op: Op, d: int, producers: Producers) -> bool:
    return all(is_alike_along(x, d, producers) for x in op.inputs)


def _expand(op: Op, d: int, producers: Producers) -> bool:
    (x,), dims = op.inputs, op.attrs["dims"]
    own = dims.index(d) if d in dims else None
    return own is None or x.shape[own] != op.output.shape[d] or is_alike_along(x, own, producers)


def _reshape(op: Op, d: int, producers: Producers) -> bool:
    """Along a dimension that one of the operand's has been split into, or that is one of them."""
    (x,) = op.inputs
    before: Size = 1
    for size in op.output.shape[:d]:
        before = mul(before, size)
    whole: Size = 1
    for own, size in enumerate(x.shape):
        if size != 1 and whole == before:
            return _is_divided(size, op.output.shape[d:]) and is_alike_along(x, own, producers)
        whole = mul(whole, size)
    return False


def _is_divided(size: Size, shape: tuple[Size, ...]) -> bool:
    """Whether a dimension of ``size`` is the first of ``shape``, or several of them."""
    product: Size = 1
    for each in shape:
        product = mul(product, each)
        if product == size:
            return True
    return False


def _permute(op: Op, d: int, producers: Producers) -> bool:
    return is_alike_along(op.inputs[0], op.attrs["perm"][d], producers)


def _slice(op: Op, d: int, producers: Producers) -> bool:
    return is_alike_along(op.inputs[0], d, producers)


def _reduce(op: Op, d: int, producers: Producers) -> bool:
    kept = [own for own in range(op.inputs[0].type.rank) if own not in op.attrs["dims"]]
    return is_alike_along(op.inputs[0], kept[d], producers)


def _contract(op: Op, d: int, producers: Producers) -> bool:
    name = op.attrs["out"][d]
    along = axis(name, dict(op.attrs["axes"])[name])
    places = [(x, entries) for x, entries in zip(op.inputs, op.attrs["maps"], strict=True) if along in entries]
    return all(is_alike_along(x, entries.index(along), producers) for x, entries in places)


def _constant(op: Op, d: int, producers: Producers) -> bool:
    return True


_ALONG: Mapping[str, Callable[[Op, int, Producers], bool]] = {
    "pointwise": _elementwise,
    "cast": _elementwise,
    "expand": _expand,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "reduce": _reduce,
    "contract": _contract,
    "constant": _constant,
}
