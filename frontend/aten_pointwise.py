"""Rows: pointwise ops. Each computes in torch's promoted dtype and rounds once, as ATen's kernels do."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rooftile.frontend.aten_conversions import truth
from rooftile.frontend.importing import Import, Scalar, as_float, promoted
from rooftile.frontend.rows import Row, decline_if, row, rows_of_one_kind
from rooftile.ir.core import Value
from rooftile.ir.dtypes import B1, compute_type

aten = torch.ops.aten
Operand = Value | Scalar

# One float operand; an integer is converted first.
_FLOAT = {
    aten.exp.default: "exp",
    aten.exp2.default: "exp2",
    aten.expm1.default: "expm1",
    aten.log.default: "log",
    aten.log2.default: "log2",
    aten.log1p.default: "log1p",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.reciprocal.default: "reciprocal",
    aten.sin.default: "sin",
    aten.cos.default: "cos",
    aten.tan.default: "tan",
    aten.acos.default: "acos",
    aten.atan.default: "atan",
    aten.tanh.default: "tanh",
    aten.sigmoid.default: "sigmoid",
    aten.erf.default: "erf",
    aten.erfc.default: "erfc",
}

# One operand of any dtype.
_SAME = {
    aten.neg.default: "neg",
    aten.abs.default: "abs",
    aten.bitwise_not.default: "not",
}

# One operand; nothing happens to an integer.
_ROUNDING = {
    aten.floor.default: "floor",
    aten.ceil.default: "ceil",
    aten.round.default: "round",
    aten.trunc.default: "trunc",
}

# Two operands, computed and returned in the promoted dtype.
_BINARY = {
    aten.mul.Tensor: "mul",
    aten.mul.Scalar: "mul",
    aten.remainder.Tensor: "mod",
    aten.remainder.Scalar: "mod",
    aten.remainder.Scalar_Tensor: "mod",
    aten.fmod.Tensor: "fmod",
    aten.fmod.Scalar: "fmod",
    aten.floor_divide.default: "floordiv",
    aten.floor_divide.Scalar: "floordiv",
    aten.maximum.default: "maximum",
    aten.max.other: "maximum",
    aten.minimum.default: "minimum",
    aten.min.other: "minimum",
    aten.bitwise_and.Tensor: "and",
    aten.bitwise_and.Scalar: "and",
    aten.bitwise_and.Scalar_Tensor: "and",
    aten.__and__.Tensor: "and",
    aten.__and__.Scalar: "and",
    aten.bitwise_or.Tensor: "or",
    aten.bitwise_or.Scalar: "or",
    aten.bitwise_or.Scalar_Tensor: "or",
    aten.__or__.Tensor: "or",
    aten.__or__.Scalar: "or",
    aten.bitwise_xor.Tensor: "xor",
    aten.bitwise_xor.Scalar: "xor",
    aten.bitwise_xor.Scalar_Tensor: "xor",
    aten.__xor__.Tensor: "xor",
    aten.__xor__.Scalar: "xor",
    aten.bitwise_left_shift.Tensor: "shl",
    aten.bitwise_left_shift.Scalar_Tensor: "shl",
    aten.__lshift__.Scalar: "shl",
    aten.__lshift__.Tensor: "shl",
    aten.bitwise_right_shift.Tensor: "shr",
    aten.bitwise_right_shift.Scalar_Tensor: "shr",
    aten.__rshift__.Scalar: "shr",
    aten.__rshift__.Tensor: "shr",
}

# Two operands compared in the promoted dtype.
_COMPARISONS = {
    getattr(getattr(aten, name), overload): name
    for name in ("eq", "ne", "lt", "le", "gt", "ge")
    for overload in ("Tensor", "Scalar")
}

_LOGICAL = {aten.logical_and.default: "and", aten.logical_or.default: "or", aten.logical_xor.default: "xor"}


def _float_row(fn: str) -> Row:
    return lambda im, x: im.b.pointwise(fn, im.operand(x, im.dtype))


def _same_row(fn: str) -> Row:
    return lambda im, x: im.b.pointwise(fn, x)


def _rounding_row(fn: str) -> Row:
    return lambda im, x: im.b.pointwise(fn, x) if x.dtype.is_float else x


def _binary_row(fn: str) -> Row:
    def build(im: Import, x: Operand, y: Operand) -> Value:
        if im.dtype is B1 and fn == "mul":
            return im.in_dtype("and", B1, x, y)
        return im.in_dtype(fn, im.dtype, x, y)

    return build


def _comparison_row(fn: str) -> Row:
    # A Python number is converted to the tensor's dtype, as ATen's comparison kernels do.
    def build(im: Import, x: Operand, y: Operand) -> Value:
        dtype = promoted(x, y)
        return im.b.pointwise(fn, im.operand(x, dtype), im.operand(y, dtype))

    return build


def _logical_row(fn: str) -> Row:
    return lambda im, x, y: im.b.pointwise(fn, truth(im, x), truth(im, y))


for _table, _make in (
    (_FLOAT, _float_row),
    (_SAME, _same_row),
    (_ROUNDING, _rounding_row),
    (_BINARY, _binary_row),
    (_COMPARISONS, _comparison_row),
    (_LOGICAL, _logical_row),
):
    rows_of_one_kind(_table, _make)


@row(aten.add.Tensor, aten.add.Scalar)
def add(im: Import, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    return _add_scaled(im, "or" if im.dtype is B1 else "add", x, y, alpha)


@row(aten.sub.Tensor, aten.sub.Scalar)
def sub(im: Import, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    return _add_scaled(im, "sub", x, y, alpha)


@row(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(im: Import, x: Operand, y: Operand, alpha: Scalar = 1) -> Value:
    return _add_scaled(im, "sub", y, x, alpha)


def _add_scaled(im: Import, fn: str, x: Operand, y: Operand, alpha: Scalar) -> Value:
    """``x + alpha * y``, rounded once."""
    if alpha == 1:
        return im.in_dtype(fn, im.dtype, x, y)
    wide = compute_type(im.dtype)
    scaled = im.b.pointwise("mul", im.operand(y, wide), im.scalar(alpha, wide))
    return im.b.cast(im.b.pointwise(fn, im.operand(x, wide), scaled), im.dtype)


@row(aten.div.Tensor, aten.div.Scalar)
def div(im: Import, x: Operand, y: Operand) -> Value:
    return im.in_dtype("div", im.dtype, x, y)


@row(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_mode(im: Import, x: Operand, y: Operand, *, rounding_mode: str | None = None) -> Value:
    fns = {None: "div", "floor": "floordiv", "trunc": "truncdiv"}
    return im.in_dtype(fns[rounding_mode], im.dtype, x, y)


@row(aten.square.default)
def square(im: Import, x: Value) -> Value:
    return im.b.pointwise("mul", x, x)


@row(aten.sign.default, aten.sgn.default)
def sign(im: Import, x: Value) -> Value:
    return x if x.dtype is B1 else im.b.pointwise("sign", x)


@row(aten.logical_not.default)
def logical_not(im: Import, x: Value) -> Value:
    return im.b.pointwise("not", truth(im, x))


@row(aten.isnan.default)
def isnan(im: Import, x: Value) -> Value:
    return im.b.pointwise("isnan", x) if x.dtype.is_float else im.full(False, B1, x.shape)


@row(aten.isinf.default)
def isinf(im: Import, x: Value) -> Value:
    return im.b.pointwise("isinf", x) if x.dtype.is_float else im.full(False, B1, x.shape)


def _power_by_products(im: Import, x: Value, exponent: int) -> Value:
    """``x ** exponent`` for a small positive exponent, as ATen multiplies it out, rounded once."""
    wide = im.wide(x)
    result = wide
    for _ in range(exponent - 1):
        result = im.b.pointwise("mul", result, wide)
    return im.b.cast(result, x.dtype)


_POWERS: dict[float, Callable[[Import, Value], Value]] = {
    1.0: lambda im, x: x,
    2.0: lambda im, x: _power_by_products(im, x, 2),
    3.0: lambda im, x: _power_by_products(im, x, 3),
    4.0: lambda im, x: _power_by_products(im, x, 4),
    0.5: lambda im, x: im.b.pointwise("sqrt", x),
    -0.5: lambda im, x: im.b.pointwise("rsqrt", x),
    -1.0: lambda im, x: im.b.pointwise("reciprocal", x),
}


@row(aten.pow.Tensor_Scalar)
def pow_scalar(im: Import, x: Value, exponent: Scalar) -> Value:
    decline_if(not im.dtype.is_float and exponent not in (1, 2, 3, 4), "an integer power")
    base = im.operand(x, im.dtype)
    if isinstance(exponent, (int, float)) and float(exponent) in _POWERS:
        return _POWERS[float(exponent)](im, base)
    return im.in_dtype("pow", im.dtype, base, exponent)


@row(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def pow_tensor(im: Import, x: Operand, exponent: Operand) -> Value:
    decline_if(not im.dtype.is_float, "an integer power")
    return im.in_dtype("pow", im.dtype, x, exponent)


@row(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def where(im: Import, condition: Value, x: Operand, y: Operand) -> Value:
    return im.where(condition, x, y, im.dtype)


@row(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(im: Import, x: Value, mask: Value, value: Operand) -> Value:
    return im.where(mask, value, x, im.dtype)


@row(aten.clamp.default, aten.clamp.Tensor)
def clamp(im: Import, x: Value, min: Operand | None = None, max: Operand | None = None) -> Value:
    result = im.operand(x, im.dtype)
    if min is not None:
        result = im.b.pointwise("maximum", result, im.operand(min, im.dtype))
    if max is not None:
        result = im.b.pointwise("minimum", result, im.operand(max, im.dtype))
    return result


@row(aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(im: Import, x: Value, min: Operand) -> Value:
    return clamp(im, x, min)


@row(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(im: Import, x: Value, max: Operand) -> Value:
    return clamp(im, x, None, max)


@row(aten.lerp.Scalar, aten.lerp.Tensor)
def lerp(im: Import, x: Value, end: Value, weight: Operand) -> Value:
    wide = compute_type(im.dtype)
    first, last = im.operand(x, wide), im.operand(end, wide)
    step = im.b.pointwise("mul", im.operand(weight, wide), im.b.pointwise("sub", last, first))
    return im.b.cast(im.b.pointwise("add", first, step), im.dtype)


@row(aten.addcmul.default)
def addcmul(im: Import, x: Value, a: Value, b: Value, *, value: Scalar = 1) -> Value:
    return _accumulated(im, "mul", x, a, b, value)


@row(aten.addcdiv.default)
def addcdiv(im: Import, x: Value, a: Value, b: Value, *, value: Scalar = 1) -> Value:
    return _accumulated(im, "div", x, a, b, value)


def _accumulated(im: Import, fn: str, x: Value, a: Value, b: Value, value: Scalar) -> Value:
    decline_if(not im.dtype.is_float, "integers")
    wide = compute_type(im.dtype)
    joined = im.b.pointwise(fn, im.operand(a, wide), im.operand(b, wide))
    if value != 1:
        joined = im.b.pointwise("mul", im.scalar(value, wide), joined)
    return im.b.cast(im.b.pointwise("add", im.operand(x, wide), joined), im.dtype)


@row(aten.true_divide.Tensor, aten.true_divide.Scalar)
def true_divide(im: Import, x: Value, y: Operand) -> Value:
    dtype = as_float(promoted(x, y))
    return im.in_dtype("div", dtype, x, y)
