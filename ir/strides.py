"""Where the elements of a buffer lie in memory, in elements counted from its first."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add, mul


def strides_of(shape: Sequence[Size], order: Sequence[int] | None = None) -> tuple[Size, ...]:
    """The strides of a buffer without gaps whose dimensions lie in memory in ``order``, outermost first; in row-major
    order without one."""
    strides: list[Size] = [0] * len(shape)
    step: Size = 1
    for d in reversed(range(len(shape)) if order is None else order):
        strides[d] = step
        step = mul(step, shape[d])
    return tuple(strides)


def is_contiguous(shape: Sequence[Size], strides: Sequence[Size]) -> bool:
    """Whether ``strides`` are row-major for ``shape``, without gaps; that of a dimension of size 1 does not matter."""
    wanted = strides_of(shape)
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, wanted, strict=True))


def position(index: Sequence[Size], strides: Sequence[Size]) -> Size:
    """Where the element at ``index`` lies."""
    total: Size = 0
    for e, stride in zip(index, strides, strict=True):
        total = add(total, mul(e, stride))
    return total


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """How many elements lie between the first and the last of a tensor, both included; 0 for an empty one."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
