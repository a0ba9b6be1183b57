"""Rows: normalizations. Statistics and scaling in fp32 at least, one rounding at the end, as in ATen's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rooftile.frontend.aten_reductions import variance
from rooftile.frontend.importing import Import, tensor_type
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.division import floordiv
from rooftile.ir.expr import Size

aten = torch.ops.aten


def _scaled(im: Import, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """``x * weight + bias`` in the dtype of ``x``; both broadcast against it."""
    if weight is not None:
        x = im.b.pointwise("mul", x, im.b.cast(weight, x.dtype))
    if bias is not None:
        x = im.b.pointwise("add", x, im.b.cast(bias, x.dtype))
    return x


def _standardized(im: Import, x: Value, dims: Sequence[int], eps: float) -> tuple[Value, Value, Value]:
    """(``(x - mean) * rstd``, mean, rstd), the statistics with their dimensions kept as 1."""
    spread, middle = variance(im, x, dims, 0, True)
    rstd = im.b.pointwise("rsqrt", im.b.pointwise("add", spread, im.scalar(eps, x.dtype)))
    return im.b.pointwise("mul", im.b.pointwise("sub", x, middle), rstd), middle, rstd


def _last(x: Value, count: int) -> tuple[int, ...]:
    return tuple(range(x.type.rank - count, x.type.rank))


@row(aten.layer_norm.default)
def layer_norm(
    im: Import,
    x: Value,
    normalized_shape: Sequence[Size],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    standard, _, _ = _standardized(im, im.wide(x), _last(x, len(normalized_shape)), eps)
    return im.b.cast(_scaled(im, standard, weight, bias), im.dtype)


@row(aten.native_layer_norm.default)
def native_layer_norm(
    im: Import, x: Value, normalized_shape: Sequence[Size], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, Value, Value]:
    standard, middle, rstd = _standardized(im, im.wide(x), _last(x, len(normalized_shape)), eps)
    result = im.b.cast(_scaled(im, standard, weight, bias), im.dtype)
    return result, _like(im, middle, 1), _like(im, rstd, 2)


def _like(im: Import, value: Value, number: int) -> Value:
    """A statistic in the dtype and shape that torch gives result ``number``."""
    type = tensor_type(im.expected[number])
    return im.b.cast(im.b.reshape(value, type.shape), type.dtype)


@row(aten.rms_norm.default, aten._fused_rms_norm.default)
def rms_norm(
    im: Import, x: Value, normalized_shape: Sequence[Size], weight: Value | None = None, eps: float | None = None
) -> Value | tuple[Value, Value]:
    wide, dims = im.wide(x), _last(x, len(normalized_shape))
    least = torch.finfo(wide.dtype.torch).eps if eps is None else eps  # of what ATen computes in
    power = im.mean(im.b.pointwise("mul", wide, wide), dims)
    rstd = im.b.pointwise("rsqrt", im.b.pointwise("add", power, im.scalar(least, wide.dtype)))
    result = im.b.cast(_scaled(im, im.b.pointwise("mul", wide, rstd), weight, None), im.dtype)
    return (result, _like(im, rstd, 1)) if isinstance(im.expected, (list, tuple)) else result


def _per_channel(im: Import, x: Value | None, rank: int) -> Value | None:
    """A vector over dimension 1 of a tensor of ``rank`` dimensions, so that it broadcasts."""
    return None if x is None else im.b.reshape(x, (x.shape[0], *(1,) * (rank - 2)))


@row(aten.group_norm.default)
def group_norm(
    im: Import,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    channels = floordiv(x.shape[1], num_groups)
    grouped = im.b.reshape(im.wide(x), (x.shape[0], num_groups, channels, *x.shape[2:]))
    standard, _, _ = _standardized(im, grouped, tuple(range(2, grouped.type.rank)), eps)
    result = im.b.reshape(standard, x.shape)
    result = _scaled(im, result, _per_channel(im, weight, x.type.rank), _per_channel(im, bias, x.type.rank))
    return im.b.cast(result, im.dtype)


def _normalized_by_running(
    im: Import, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value, eps: float
) -> Value:
    wide, rank = im.wide(x), x.type.rank
    spread = im.b.pointwise("add", im.b.cast(var, wide.dtype), im.scalar(eps, wide.dtype))
    rstd = _per_channel(im, im.b.pointwise("rsqrt", spread), rank)
    middle = _per_channel(im, im.b.cast(mean, wide.dtype), rank)
    assert rstd is not None and middle is not None
    standard = im.b.pointwise("mul", im.b.pointwise("sub", wide, middle), rstd)
    scaled = _scaled(im, standard, _per_channel(im, weight, rank), _per_channel(im, bias, rank))
    return im.b.cast(scaled, im.dtype)


@row(aten.batch_norm.default)
def batch_norm(
    im: Import,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    decline_if(training or running_mean is None or running_var is None, "batch statistics")
    assert running_mean is not None and running_var is not None
    return _normalized_by_running(im, x, weight, bias, running_mean, running_var, eps)


@row(aten._native_batch_norm_legit_no_training.default)
def batch_norm_no_training(
    im: Import,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    momentum: float,
    eps: float,
) -> dict[int, Value]:
    return {0: _normalized_by_running(im, x, weight, bias, running_mean, running_var, eps)}
