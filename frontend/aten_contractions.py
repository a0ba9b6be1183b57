"""Rows: sums of products. Accumulation is in fp32 at least; what else the same ATen op does happens before rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rooftile.frontend.importing import Import, Scalar, require_one_dtype
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.dtypes import DType, compute_type
from rooftile.ir.expr import Size

aten = torch.ops.aten
Axes = list[tuple[str, Size]]


def rounded_after(im: Import, product: Value, addend: Value | None, dtype: DType) -> Value:
    """The product, still in the accumulation dtype, plus what the op adds to it, then rounded."""
    if addend is not None:
        product = im.b.pointwise("add", product, im.b.cast(addend, product.dtype))
    return im.b.cast(product, dtype)


def batched_product(im: Import, x: Value, y: Value, dtype: DType) -> Value:
    """``[..., i, k] @ [..., k, j] -> [..., i, j]``; leading dimensions broadcast. ``dtype`` is that of the result."""
    rank = max(x.type.rank, y.type.rank)
    axes: Axes = []
    maps: list[list[Size]] = [[], []]
    for d in range(rank - 2):
        sizes = [_leading(t, d, rank) for t in (x, y)]
        size = next((s for s in sizes if s not in (None, 1)), 1) or 1
        axes.append((f"b{d}", size))
        name = im.axes(axes)[-1]
        for map_, own in zip(maps, sizes, strict=True):
            if own is not None:
                map_.append(0 if own == 1 and size != 1 else name)
    axes += [("i", x.shape[-2]), ("j", y.shape[-1]), ("k", x.shape[-1])]
    i, j, k = im.axes(axes)[-3:]
    out = [name for name, _ in axes[:-1]]
    return im.b.contract(
        axes, [x, y], [[*maps[0], i, k], [*maps[1], k, j]], out, acc=compute_type(x.dtype), dtype=dtype
    )


def _leading(x: Value, d: int, rank: int) -> Size | None:
    """The size of leading dimension ``d`` of ``rank - 2``; None where ``x`` has no such dimension."""
    own = d - (rank - x.type.rank)
    return x.shape[own] if own >= 0 else None


@row(aten.linear.default)
def linear(im: Import, x: Value, weight: Value, bias: Value | None = None) -> Value:
    decline_if(weight.type.rank != 2, "a weight that is no matrix")
    require_one_dtype(x, weight, bias)
    axes: Axes = [(f"b{d}", size) for d, size in enumerate(x.shape[:-1])]
    axes += [("n", weight.shape[0]), ("k", weight.shape[1])]
    *batch, n, k = im.axes(axes)
    out = [name for name, _ in axes[:-1]]
    dtype = im.dtype if bias is None else compute_type(im.dtype)
    product = im.b.contract(axes, [x, weight], [[*batch, k], [n, k]], out, acc=compute_type(x.dtype), dtype=dtype)
    return rounded_after(im, product, bias, im.dtype)


@row(aten.matmul.default)
def matmul(im: Import, x: Value, y: Value) -> Value:
    require_one_dtype(x, y)
    left = x if x.type.rank > 1 else im.b.reshape(x, (1, x.shape[0]))
    right = y if y.type.rank > 1 else im.b.reshape(y, (y.shape[0], 1))
    return im.b.reshape(batched_product(im, left, right, im.dtype), im.shape)


@row(aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default, aten.inner.default)
def mm(im: Import, x: Value, y: Value) -> Value:
    return matmul(im, x, y)


@row(aten.outer.default, aten.ger.default)
def outer(im: Import, x: Value, y: Value) -> Value:
    column = im.b.reshape(x, (x.shape[0], 1))
    return im.b.pointwise("mul", im.b.cast(column, im.dtype), im.b.cast(y, im.dtype))


@row(aten.addmm.default, aten.baddbmm.default, aten.addmv.default)
def addmm(im: Import, bias: Value, x: Value, y: Value, *, beta: Scalar = 1, alpha: Scalar = 1) -> Value:
    """``beta * bias + alpha * (x @ y)``; with ``beta`` 0 the bias is not read, NaN or not."""
    require_one_dtype(bias, x, y)
    wide = compute_type(im.dtype)
    left, right = (t if t.type.rank > 1 else im.b.reshape(t, (t.shape[0], 1)) for t in (x, y))
    product = im.b.reshape(batched_product(im, left, right, wide), im.shape)
    if alpha != 1:
        product = im.in_dtype("mul", wide, product, alpha)
    if beta == 0:
        return im.b.cast(product, im.dtype)
    addend = bias if beta == 1 else im.in_dtype("mul", wide, im.b.cast(bias, wide), beta)
    return rounded_after(im, product, addend, im.dtype)


@row(aten.einsum.default)
def einsum(im: Import, equation: str, operands: Sequence[Value], *, path: Any = None) -> Value:
    """Any einsum, an ellipsis included: letters are axes; a letter twice in one operand reads its diagonal."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = [_letters(t, x.type.rank) for t, x in zip(left.split(","), operands, strict=True)]
    if "->" not in equation:
        seen = [a for term in terms for a in term]
        batch = sorted({a for a in seen if a.startswith("_")}, key=lambda a: -int(a[1:]))
        right_letters = batch + sorted({a for a in seen if not a.startswith("_") and seen.count(a) == 1})
    else:
        right_letters = _output_letters(right, terms)
    sizes: dict[str, Size] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
    names = dict(zip(sizes, im.axes(list(sizes.items())), strict=True))
    maps = [
        [0 if size == 1 and sizes[a] != 1 else names[a] for a, size in zip(term, x.shape, strict=True)]
        for term, x in zip(terms, operands, strict=True)
    ]
    acc = compute_type(im.dtype)
    return im.b.contract(list(sizes.items()), list(operands), maps, right_letters, acc=acc, dtype=im.dtype)


def _letters(term: str, rank: int) -> list[str]:
    """One axis per dimension; those of an ellipsis are ``_0`` (the last), ``_1``, ..."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = rank - len(before) - len(after)
    return [*before, *(f"_{n}" for n in reversed(range(hidden))), *after]


def _output_letters(right: str, terms: Sequence[Sequence[str]]) -> list[str]:
    hidden = max((sum(a.startswith("_") for a in term) for term in terms), default=0)
    return _letters(right, len(right.replace("...", "")) + (hidden if "..." in right else 0))
