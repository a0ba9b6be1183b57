"""Rows: convolutions, also transposed ones, as contractions that read their input at sums of positions and taps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rooftile.frontend.aten_contractions import Axes, rounded_after
from rooftile.frontend.aten_views import padded
from rooftile.frontend.importing import Import
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.division import floordiv
from rooftile.ir.dtypes import compute_type
from rooftile.ir.expr import Expr, Size
from rooftile.ir.polynomial import add, mul

aten = torch.ops.aten


@row(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def conv(
    im: Import,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """A contraction: input position ``stride * o + dilation * k``, over the taps ``k`` and the channels of a group."""
    spatial = weight.type.rank - 2
    x = _batched(im, x, spatial)
    stride, padding, dilation = (_per_dimension(p, spatial) for p in (stride, padding, dilation))
    x = padded(im, x, [p for side in reversed(padding) for p in (side, side)], 0)
    out_sizes = im.shape[len(im.shape) - spatial :]
    inner, outer_ = weight.shape[1], floordiv(weight.shape[0], groups)
    axes: Axes = [("b", x.shape[0]), ("g", groups), ("m", outer_)]
    axes += [(f"o{d}", size) for d, size in enumerate(out_sizes)]
    axes += [("c", inner), *((f"k{d}", size) for d, size in enumerate(weight.shape[2:]))]
    b, g, m, *rest = im.axes(axes)
    places, c, taps = rest[:spatial], rest[spatial], rest[spatial + 1 :]
    read: list[Size] = [add(mul(o, s), mul(k, w)) for o, k, s, w in zip(places, taps, stride, dilation, strict=True)]
    channel, filter_ = _in_group(g, inner, c, groups), _in_group(g, outer_, m, groups)
    out = [name for name, _ in axes[: 3 + spatial]]
    product = im.b.contract(
        axes,
        [x, weight],
        [[b, channel, *read], [filter_, c, *taps]],
        out,
        acc=compute_type(x.dtype),
        dtype=im.dtype if bias is None else compute_type(im.dtype),
    )
    product = im.b.reshape(product, (x.shape[0], weight.shape[0], *out_sizes))
    return _with_bias(im, product, bias, spatial)


def _batched(im: Import, x: Value, spatial: int) -> Value:
    return x if x.type.rank == spatial + 2 else im.b.reshape(x, (1, *x.shape))


def _with_bias(im: Import, product: Value, bias: Value | None, spatial: int) -> Value:
    """The result: ``product`` and the bias of each channel."""
    if bias is not None:
        product = rounded_after(im, product, im.b.reshape(bias, (bias.shape[0], *(1,) * spatial)), im.dtype)
    return im.b.reshape(product, im.shape)


def _in_group(group: Expr, size: Size, member: Expr, groups: int) -> Size:
    return member if groups == 1 else add(mul(group, size), member)


def _per_dimension(value: Sequence[int] | int, spatial: int) -> Sequence[int]:
    listed = [value] if isinstance(value, int) else list(value)
    return listed * spatial if len(listed) == 1 else listed


@row(aten.convolution.default)
def convolution(
    im: Import,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    if transposed:
        return conv_transpose(im, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(im, x, weight, bias, stride, padding, dilation, groups)


@row(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def conv_transpose(
    im: Import,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    """A contraction for each place in a stride: position ``stride * q + r`` takes the taps ``r + stride * t`` of inputs
    ``q - t``, so that nothing is multiplied by the zeros that a stride would put between inputs."""
    spatial = weight.type.rank - 2
    x = _batched(im, x, spatial)
    stride, padding, dilation = (_per_dimension(p, spatial) for p in (stride, padding, dilation))
    decline_if(any(d != 1 for d in dilation), "a transposed convolution with taps apart")
    kernel = [k for k in weight.shape[2:] if isinstance(k, int)]
    decline_if(len(kernel) != spatial, "taps whose number is known at run time")
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    steps = [add(n, t - 1) for n, t in zip(x.shape[2:], taps, strict=True)]
    x = padded(im, x, [p for t in reversed(taps) for p in (t - 1, t - 1)], 0)
    missing = [t * s - k for t, s, k in zip(taps, stride, kernel, strict=True)]
    weight = padded(im, weight, [p for m in reversed(missing) for p in (0, m)], 0)
    product = _in_phases(im, x, weight, steps, stride, taps, groups, bias is None)
    out_sizes = im.shape[len(im.shape) - spatial :]
    cut = [(-p, add(add(n, p), mul(q, -s))) for n, p, q, s in zip(out_sizes, padding, steps, stride, strict=True)]
    product = padded(im, product, [p for pair in reversed(cut) for p in pair], 0)
    return _with_bias(im, product, bias, spatial)


def _in_phases(
    im: Import,
    x: Value,
    weight: Value,
    steps: Sequence[Size],
    stride: Sequence[int],
    taps: Sequence[int],
    groups: int,
    rounded: bool,
) -> Value:
    """``[b, channel, steps * stride ...]`` of an input with ``taps - 1`` zeros at either end, and as many taps as whole
    strides hold."""
    spatial, outer_, inner = len(steps), weight.shape[1], floordiv(weight.shape[0], groups)
    axes: Axes = [("b", x.shape[0]), ("g", groups), ("m", outer_)]
    for d, (q, s) in enumerate(zip(steps, stride, strict=True)):
        axes += [(f"q{d}", q), (f"r{d}", s)]
    out = [name for name, _ in axes]
    axes += [("c", inner), *((f"t{d}", size) for d, size in enumerate(taps))]
    b, g, m, *rest = im.axes(axes)
    places, phases = rest[: 2 * spatial : 2], rest[1 : 2 * spatial : 2]
    c, *far = rest[2 * spatial :]
    read: list[Size] = [add(q, add(mul(t, -1), n - 1)) for q, t, n in zip(places, far, taps, strict=True)]
    tap: list[Size] = [add(r, mul(t, s)) for r, t, s in zip(phases, far, stride, strict=True)]
    channel = _in_group(g, inner, c, groups)
    product = im.b.contract(
        axes,
        [x, weight],
        [[b, channel, *read], [channel, m, *tap]],
        out,
        acc=compute_type(x.dtype),
        dtype=im.dtype if rounded else compute_type(im.dtype),
    )
    whole = [mul(q, s) for q, s in zip(steps, stride, strict=True)]
    return im.b.reshape(product, (x.shape[0], mul(outer_, groups), *whole))
