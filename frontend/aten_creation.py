"""Rows: tensors made from numbers and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import row
from rooftile.ir.core import Value
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size

aten = torch.ops.aten


@row(aten.full.default, aten.full_like.default, aten.new_full.default)
def full(im: Import, *arguments: Any, **_: Any) -> Value:
    return im.full(arguments[-1], im.dtype, im.shape)


@row(aten.scalar_tensor.default)
def scalar_tensor(im: Import, value: Scalar, **_: Any) -> Value:
    return im.scalar(value, im.dtype)


# What `empty` holds is nobody's business; zero is a value like any other.
@row(
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.empty_strided.default,
    aten.new_empty_strided.default,
)
def zeros(im: Import, *_: Any, **__: Any) -> Value:
    return im.full(0, im.dtype, im.shape)


@row(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(im: Import, *_: Any, **__: Any) -> Value:
    return im.full(1, im.dtype, im.shape)


@row(aten.fill.Scalar, aten.fill.Tensor)
def fill(im: Import, x: Value, value: Value | Scalar) -> Value:
    return im.full(value, im.dtype, x.shape)


def _ramp(im: Import, start: Scalar, step: Scalar) -> Value:
    """``start + k * step``, computed in fp32 at least where the result is a float."""
    (size,) = im.shape
    if start == 0 and step == 1:
        return im.arange(size, im.dtype)
    wide = im.wide(im.arange(size, im.dtype if im.dtype.is_float else I64))
    if step != 1:
        wide = im.b.pointwise("mul", wide, im.scalar(step, wide.dtype))
    if start != 0:
        wide = im.b.pointwise("add", wide, im.scalar(start, wide.dtype))
    return im.b.cast(wide, im.dtype)


@row(aten.arange.default)
def arange(im: Import, end: Scalar, **_: Any) -> Value:
    return _ramp(im, 0, 1)


@row(aten.arange.start)
def arange_start(im: Import, start: Scalar, end: Scalar, **_: Any) -> Value:
    return _ramp(im, start, 1)


@row(aten.arange.start_step)
def arange_start_step(im: Import, start: Scalar, end: Scalar, step: Scalar = 1, **_: Any) -> Value:
    return _ramp(im, start, step)


def _diagonal_mask(im: Import, shape: Sequence[Size], fn: str, diagonal: Scalar) -> Value:
    """Over the last two dimensions: where ``column fn row + diagonal``."""
    rows, columns = (im.index_along(shape[-2:], d) for d in (0, 1))
    return im.b.pointwise(fn, columns, im.pointwise("add", rows, diagonal) if diagonal != 0 else rows)


@row(aten.eye.default, aten.eye.m)
def eye(im: Import, *_: Any, **__: Any) -> Value:
    return im.b.cast(_diagonal_mask(im, im.shape, "eq", 0), im.dtype)


@row(aten.tril.default)
def tril(im: Import, x: Value, diagonal: Scalar = 0) -> Value:
    return im.where(_diagonal_mask(im, x.shape, "le", diagonal), x, 0, im.dtype)


@row(aten.triu.default)
def triu(im: Import, x: Value, diagonal: Scalar = 0) -> Value:
    return im.where(_diagonal_mask(im, x.shape, "ge", diagonal), x, 0, im.dtype)


@row(aten.meshgrid.default, aten.meshgrid.indexing)
def meshgrid(im: Import, tensors: Sequence[Value], *, indexing: str = "ij") -> list[Value]:
    """Each vector along a dimension of its own; with ``"xy"`` the first two change places."""
    dims = list(range(len(tensors)))
    if indexing == "xy":
        dims[:2] = reversed(dims[:2])
    vectors = [im.b.reshape(x, (1,)) if x.type.rank == 0 else x for x in tensors]
    return [im.b.expand(x, im.shape, (d,)) for x, d in zip(vectors, dims, strict=True)]
