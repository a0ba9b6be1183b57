"""Rows: activation functions. Each is computed in fp32 at least and rounded once, as ATen's kernels do."""

from __future__ import annotations

import torch

from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value

aten = torch.ops.aten


@row(aten.relu.default)
def relu(im: Import, x: Value) -> Value:
    return im.b.pointwise("maximum", x, im.scalar(0, x.dtype))


@row(aten.silu.default)
def silu(im: Import, x: Value) -> Value:
    wide = im.wide(x)
    return im.b.cast(im.b.pointwise("mul", wide, im.b.pointwise("sigmoid", wide)), x.dtype)


_SQRT_HALF = 0.7071067811865476
_SQRT_2_OVER_PI = 0.7978845608028654


@row(aten.gelu.default)
def gelu(im: Import, x: Value, *, approximate: str = "none") -> Value:
    """``x * Phi(x)``, or with ``tanh`` its approximation (Hendrycks and Gimpel, arXiv:1606.08415), in fp32 at least."""
    wide = im.wide(x)

    def number(value: float) -> Value:
        return im.scalar(value, wide.dtype)

    def mul(a: Value, b: Value) -> Value:
        return im.b.pointwise("mul", a, b)

    if approximate == "tanh":
        cube = mul(mul(wide, wide), wide)
        inner = mul(number(_SQRT_2_OVER_PI), im.b.pointwise("add", wide, mul(number(0.044715), cube)))
        curve = im.b.pointwise("tanh", inner)
    else:
        curve = im.b.pointwise("erf", mul(wide, number(_SQRT_HALF)))
    half = mul(number(0.5), wide)
    return im.b.cast(mul(half, im.b.pointwise("add", number(1.0), curve)), x.dtype)


@row(aten.softplus.default)
def softplus(im: Import, x: Value, beta: Scalar = 1, threshold: Scalar = 20) -> Value:
    wide = im.wide(x)
    scaled = im.b.pointwise("mul", wide, im.scalar(beta, wide.dtype))
    soft = im.b.pointwise("log1p", im.b.pointwise("exp", scaled))
    soft = im.b.pointwise("div", soft, im.scalar(beta, wide.dtype))
    linear = im.b.pointwise("gt", scaled, im.scalar(threshold, wide.dtype))
    return im.b.cast(im.where(linear, wide, soft, wide.dtype), x.dtype)


@row(aten.prelu.default)
def prelu(im: Import, x: Value, weight: Value) -> Value:
    """The slope below zero is one number, or one for each channel, the second dimension."""
    channels = weight.shape if x.type.rank > 1 else ()
    slope = im.b.reshape(weight, (*channels, *(1,) * max(0, x.type.rank - 2)))
    return im.where(im.pointwise("gt", x, 0), x, im.pointwise("mul", slope, x), im.dtype)


@row(aten.dropout.default, aten.alpha_dropout.default, aten.feature_dropout.default)
def dropout(im: Import, x: Value, p: float, train: bool) -> Value:
    decline_if(train and p > 0, "dropout in training")
    return x
