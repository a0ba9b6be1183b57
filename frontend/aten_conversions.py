"""Rows: other dtypes, and ops that in a functional graph give their operand back."""

from __future__ import annotations

from typing import Any

import torch

from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import row
from rooftile.ir.core import Value
from rooftile.ir.dtypes import B1, DType

aten = torch.ops.aten


def truth(im: Import, x: Value) -> Value:
    """``x != 0``."""
    return x if x.dtype is B1 else im.b.pointwise("ne", x, im.scalar(0, x.dtype))


@row(aten._to_copy.default)
def to_copy(im: Import, x: Value | Scalar, **_: Any) -> Value:
    """``x`` is a number where a trace has met a tensor of one element whose value it knows."""
    return _converted(im, x, im.dtype) if isinstance(x, Value) else im.scalar(x, im.dtype)


@row(aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten.to.other, aten.type_as.default)
def to(im: Import, x: Value, *_: Any, **__: Any) -> Value:
    return _converted(im, x, im.dtype)


def _converted(im: Import, x: Value, dtype: DType) -> Value:
    return truth(im, x) if dtype is B1 else im.b.cast(x, dtype)


@row(
    aten.clone.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.lift_fresh.default,
    aten.lift_fresh_copy.default,
    aten.positive.default,
)
def same(im: Import, x: Value, **_: Any) -> Value:
    return x


@row(aten.copy.default)
def copy(im: Import, x: Value, source: Value, non_blocking: bool = False) -> Value:
    """The value that ``x.copy_(source)`` leaves in ``x``."""
    return im.b.broadcast(_converted(im, source, im.dtype), x.shape)
