"""Rows: averages over windows, as sums of elements at ``stride * window + tap``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rooftile.frontend.aten_views import padded
from rooftile.frontend.importing import Import
from rooftile.frontend.rows import Row, decline_if, rows_of_one_kind
from rooftile.ir.core import Value
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add, mul

aten = torch.ops.aten


def _average_row(spatial: int) -> Row:
    def build(
        im: Import,
        x: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        kernel, padding = _per_dimension(kernel_size, spatial), _per_dimension(padding, spatial)
        step = _per_dimension(stride, spatial) if stride else kernel
        total = _sums(im, x, kernel, step, padding, ceil_mode)
        count = im.scalar(divisor_override or 1, total.dtype)
        for d in range(spatial) if divisor_override is None else ():
            edge = padding[d] if count_include_pad else 0
            dim = x.type.rank - spatial + d
            cut = ceil_mode or padding[d] > edge
            taken = _taken(im, x.shape[dim], dim, (kernel[d], step[d], padding[d], edge)) if cut else kernel[d]
            count = im.pointwise("mul", count, im.operand(taken, total.dtype))
        return im.b.cast(im.pointwise("div", total, count), im.dtype)

    return build


def _adaptive_row(spatial: int) -> Row:
    def build(im: Import, x: Value, output_size: Sequence[Size]) -> Value:
        """Windows that have one size where the results divide the elements; others are torch's decomposition."""
        first = x.type.rank - spatial
        wanted, there = im.shape[first:], x.shape[first:]
        kernel = [n // out for n, out in zip(there, wanted, strict=True) if isinstance(n, int) and isinstance(out, int)]
        whole = [mul(k, out) for k, out in zip(kernel, wanted, strict=False)]
        decline_if(tuple(whole) != tuple(there), "windows of several sizes")
        return im.b.cast(im.mean(_windows(im, im.wide(x), kernel, kernel), _last(x, spatial), keepdim=False), im.dtype)

    return build


def _per_dimension(value: Sequence[int] | int, spatial: int) -> list[int]:
    listed = [value] if isinstance(value, int) else list(value)
    return listed * spatial if len(listed) == 1 else listed


def _last(x: Value, spatial: int) -> tuple[int, ...]:
    """The dimensions of the taps behind those of ``x``."""
    return tuple(range(x.type.rank, x.type.rank + spatial))


def _sums(
    im: Import, x: Value, kernel: Sequence[int], step: Sequence[int], padding: Sequence[int], ceil_mode: bool
) -> Value:
    """The sum of each window. The last one may reach behind the padding by less than a step."""
    beyond = [s - 1 if ceil_mode else 0 for s in step]
    sides = [side for p, b in zip(reversed(padding), reversed(beyond), strict=True) for side in (p, p + b)]
    windows = _windows(im, padded(im, im.wide(x), sides, 0), kernel, step)
    return im.b.reduce("sum", windows, _last(x, len(kernel)))


def _windows(im: Import, x: Value, kernel: Sequence[int], step: Sequence[int]) -> Value:
    """``x`` with the windows of its last dimensions in their place, and the taps of each as dimensions behind them."""
    axes = [(f"a{n}", size) for n, size in enumerate((*im.shape, *kernel))]
    names, first = im.axes(axes), len(im.shape) - len(kernel)
    places, taps = names[first : len(im.shape)], names[len(im.shape) :]
    read: list[Size] = [add(mul(o, s), k) for o, s, k in zip(places, step, taps, strict=True)]
    return im.b.gather(x, [], axes, [[*names[:first], *read]])


def _taken(im: Import, length: Size, dim: int, window: tuple[int, int, int, int]) -> Value:
    """How many taps of each window count along ``dim``: those of the elements, and of ``edge`` beyond them."""
    kernel, step, padding, edge = window
    start = im.pointwise("add", im.pointwise("mul", im.index_along(im.shape, dim), step), -padding)
    end = im.pointwise("minimum", im.pointwise("add", start, kernel), im.b.number(add(length, edge), start.dtype))
    return im.pointwise("sub", end, im.pointwise("maximum", start, -edge))


rows_of_one_kind({aten.avg_pool1d.default: 1, aten.avg_pool2d.default: 2, aten.avg_pool3d.default: 3}, _average_row)
rows_of_one_kind(
    {
        aten.adaptive_avg_pool1d.default: 1,
        aten.adaptive_avg_pool2d.default: 2,
        aten.adaptive_avg_pool3d.default: 3,
    },
    _adaptive_row,
)
