"""Addresses as blocks: which steps the axes of an access take in memory, and whether bulk copies can take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rooftile.ir.division import divides
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size, symbols
from rooftile.ir.polynomial import linear_in
from rooftile.ir.ranges import at_least

ALIGNMENT = 16  # bytes: what the base and all strides but the last are multiples of


def step_along(offset: Size, name: str) -> tuple[Size | None, Size]:
    """How far a step along the axis ``name`` moves ``offset``, and the rest of it; None where that depends on a
    position, or nothing moves."""
    axis = next((s for s in symbols(offset) if s.name == name), None)
    if axis is None or isinstance(offset, int):
        return None, offset
    stride, rest = linear_in(offset, axis)
    if stride is None or axis in symbols(rest) or any(s.extent is not None for s in symbols(stride)):
        return None, offset
    return stride, rest


def aligned_strides(strides: Sequence[Size], base: Size, dtype: DType) -> bool:
    """Whether one of ``strides`` is 1, and the others, which are positive, and ``base`` are aligned, in elements of
    ``dtype``."""
    multiple = ALIGNMENT // dtype.bytes
    rows = [stride for stride in strides if stride != 1]
    return (
        len(rows) + 1 == len(strides)
        and all(at_least(s, 1) and divides(multiple, s) for s in rows)
        and divides(multiple, base)
    )


def rows_aligned(offset: Size, axes: Iterable[str], dtype: DType) -> bool:
    """Whether ``offset``, of elements of ``dtype``, takes constant aligned steps along all of ``axes``, one of which is
    contiguous."""
    strides: list[Size] = []
    for name in axes:
        stride, offset = step_along(offset, name)
        if stride is None:
            return False
        strides.append(stride)
    return aligned_strides(strides, offset, dtype)
