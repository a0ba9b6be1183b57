"""Rows: reductions, scans and softmax. Narrow floats are reduced in fp32 and rounded once, as ATen does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rooftile.frontend.aten_conversions import truth
from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import Row, decline_if, dims_of, row, rows_of_one_kind
from rooftile.ir.core import Value
from rooftile.ir.dtypes import F32, F64, compute_type, from_torch

aten = torch.ops.aten
Dims = Sequence[int] | int | None


def _in_sum_dtype(im: Import, x: Value) -> Value:
    return im.b.cast(x, compute_type(im.dtype))


@row(aten.sum.default, aten.sum.dim_IntList)
def sum_(im: Import, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    total = im.b.reduce("sum", _in_sum_dtype(im, x), dims_of(x.type.rank, dim), keepdim=keepdim)
    return im.b.cast(total, im.dtype)


@row(aten.mean.default, aten.mean.dim)
def mean(im: Import, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return im.b.cast(im.mean(_in_sum_dtype(im, x), dims_of(x.type.rank, dim), keepdim=keepdim), im.dtype)


@row(aten.prod.default)
def prod(im: Import, x: Value, *, dtype: Any = None) -> Value:
    return im.b.cast(im.b.reduce("prod", _in_sum_dtype(im, x), dims_of(x.type.rank, None)), im.dtype)


@row(aten.prod.dim_int)
def prod_dim(im: Import, x: Value, dim: int, keepdim: bool = False, *, dtype: Any = None) -> Value:
    reduced = im.b.reduce("prod", _in_sum_dtype(im, x), dims_of(x.type.rank, dim), keepdim=keepdim)
    return im.b.cast(reduced, im.dtype)


def _extremum_row(fn: str) -> Row:
    def build(im: Import, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
        return im.b.reduce(fn, x, dims_of(x.type.rank, dim), keepdim=keepdim)

    return build


def _extremum_with_index_row(fn: str) -> Row:
    def build(im: Import, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        dims = dims_of(x.type.rank, dim)
        return im.b.reduce(fn, x, dims, keepdim=keepdim), _position(im, fn, x, dims, keepdim)

    return build


def _position_row(fn: str) -> Row:
    def build(im: Import, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            flat = im.b.reshape(x, (x.type.numel,))
            return im.b.reshape(_position(im, fn, flat, (0,), False), im.shape)
        return _position(im, fn, x, dims_of(x.type.rank, dim), keepdim)

    return build


def _position(im: Import, fn: str, x: Value, dims: Sequence[int], keepdim: bool) -> Value:
    decline_if(not dims, "the position in a scalar")
    return im.b.reduce(f"arg{fn}", x, dims, keepdim=keepdim)


def _logical_row(fn: str) -> Row:
    def build(im: Import, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
        return im.b.cast(im.b.reduce(fn, truth(im, x), dims_of(x.type.rank, dim), keepdim=keepdim), im.dtype)

    return build


rows_of_one_kind({aten.amax.default: "max", aten.max.default: "max"}, _extremum_row)
rows_of_one_kind({aten.amin.default: "min", aten.min.default: "min"}, _extremum_row)
rows_of_one_kind({aten.max.dim: "max", aten.min.dim: "min"}, _extremum_with_index_row)
rows_of_one_kind({aten.argmax.default: "max", aten.argmin.default: "min"}, _position_row)
rows_of_one_kind({aten.any.default: "any", aten.any.dim: "any", aten.any.dims: "any"}, _logical_row)
rows_of_one_kind({aten.all.default: "all", aten.all.dim: "all", aten.all.dims: "all"}, _logical_row)


def variance(im: Import, x: Value, dims: Sequence[int], correction: Scalar, keepdim: bool) -> tuple[Value, Value]:
    """(variance, mean) in the dtype of ``x``, by the mean of squared distances from the mean."""
    middle = im.mean(x, dims)
    away = im.b.pointwise("sub", x, middle)
    squares = im.b.reduce("sum", im.b.pointwise("mul", away, away), dims, keepdim=keepdim)
    count = im.size_factor(x, dims, x.dtype)
    if correction != 0:
        less = im.b.pointwise("sub", count, im.scalar(correction, x.dtype))
        count = im.b.pointwise("maximum", less, im.scalar(0, x.dtype))
    shape = squares.shape
    return im.b.pointwise("div", squares, count), im.b.reshape(middle, shape)


@row(aten.var.correction)
def var(im: Import, x: Value, dim: Dims = None, *, correction: Scalar | None = None, keepdim: bool = False) -> Value:
    spread, _ = variance(im, im.wide(x), dims_of(x.type.rank, dim), 1 if correction is None else correction, keepdim)
    return im.b.cast(spread, im.dtype)


@row(aten.var.default)
def var_default(im: Import, x: Value, unbiased: bool = True) -> Value:
    return var(im, x, correction=int(unbiased))


@row(aten.var.dim)
def var_dim(im: Import, x: Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> Value:
    return var(im, x, dim, correction=int(unbiased), keepdim=keepdim)


@row(aten.std.correction)
def std(im: Import, x: Value, dim: Dims = None, *, correction: Scalar | None = None, keepdim: bool = False) -> Value:
    spread, _ = variance(im, im.wide(x), dims_of(x.type.rank, dim), 1 if correction is None else correction, keepdim)
    return im.b.cast(im.b.pointwise("sqrt", spread), im.dtype)


@row(aten.std.default)
def std_default(im: Import, x: Value, unbiased: bool = True) -> Value:
    return std(im, x, correction=int(unbiased))


@row(aten.std.dim)
def std_dim(im: Import, x: Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> Value:
    return std(im, x, dim, correction=int(unbiased), keepdim=keepdim)


@row(aten.var_mean.correction)
def var_mean(
    im: Import, x: Value, dim: Dims = None, *, correction: Scalar | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    both = variance(im, im.wide(x), dims_of(x.type.rank, dim), 1 if correction is None else correction, keepdim)
    return im.b.cast(both[0], im.dtype), im.b.cast(both[1], im.dtype)


@row(aten.linalg_vector_norm.default)
def vector_norm(
    im: Import, x: Value, ord: Scalar = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    decline_if(ord not in (1, 2), f"a norm of order {ord}")
    wide, dims = _in_sum_dtype(im, x), dims_of(x.type.rank, dim)
    terms = im.b.pointwise("mul", wide, wide) if ord == 2 else im.b.pointwise("abs", wide)
    total = im.b.reduce("sum", terms, dims, keepdim=keepdim)
    return im.b.cast(im.b.pointwise("sqrt", total) if ord == 2 else total, im.dtype)


@row(aten.var_mean.dim)
def var_mean_dim(im: Import, x: Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> tuple[Value, Value]:
    return var_mean(im, x, dim, correction=int(unbiased), keepdim=keepdim)


def _scan_row(fn: str) -> Row:
    """In double, as ATen does on the CPU: what is exponentiated next, such as decays summed up, has errors of its ulps
    as relative ones."""

    def build(im: Import, x: Value, dim: int, *, dtype: Any = None) -> Value:
        decline_if(x.type.rank == 0, "a scan of a scalar")
        x = _in_sum_dtype(im, x)
        wide = im.b.cast(x, F64) if x.dtype.is_float else x
        return im.b.cast(im.b.op("scan", [wide], {"fn": fn, "dim": dim % x.type.rank}), im.dtype)

    return build


rows_of_one_kind({aten.cumsum.default: "sum", aten.cumprod.default: "prod"}, _scan_row)


_MOST_BINS = 1024


@row(aten.histc.default)
def histc(im: Import, x: Value, bins: int = 100, min: Scalar = 0, max: Scalar = 0) -> Value:
    """How many elements lie in each of ``bins`` equal parts of ``min .. max``, which belongs to the last of them."""
    decline_if(min == max or bins > _MOST_BINS, "a range that the data decide, or very many bins")
    decline_if(x.dtype not in (F32, F64) and x.dtype.is_float, "a narrow float")
    whole = _whole_numbers(im, x)
    if whole is not None and min == 0 and max == bins - 1:  # each bin has one number
        line = im.b.broadcast(im.b.reshape(whole, (x.type.numel, 1)), (x.type.numel, bins))
        same = im.b.pointwise("eq", line, im.b.broadcast(im.arange(bins, whole.dtype), line.shape))
        return im.b.reduce("sum", im.b.cast(same, im.dtype), (0,))
    line = im.b.reshape(x, (x.type.numel, 1))
    scaled = im.pointwise("mul", im.pointwise("sub", line, im.scalar(min, x.dtype)), im.scalar(bins, x.dtype))
    spread = im.b.pointwise("sub", im.scalar(max, x.dtype), im.scalar(min, x.dtype))
    bin = im.pointwise("floordiv", scaled, spread)
    last = im.b.pointwise("minimum", bin, im.b.broadcast(im.scalar(bins - 1, x.dtype), bin.shape))
    inside = im.b.pointwise("and", im.pointwise("ge", line, min), im.pointwise("le", line, max))
    chosen = im.b.pointwise("and", im.pointwise("eq", last, im.arange(bins, x.dtype)), inside)
    return im.b.reduce("sum", im.b.cast(chosen, im.dtype), (0,))


def _whole_numbers(im: Import, x: Value) -> Value | None:
    """``x`` as the integers that it is or was cast from, if it is any. Those that a float does not tell apart are far
    beyond all bins."""
    if x.dtype.kind == "int":
        return x
    cast = im.producer(x)
    is_cast = cast is not None and cast.name == "cast" and cast.inputs[0].dtype.kind == "int"
    return cast.inputs[0] if cast is not None and is_cast else None


def exponentials(im: Import, x: Value, *dims: int) -> tuple[Value, Value, Value]:
    """(maximum, exp(x - maximum), their sum) along ``dims``, which stay as size 1."""
    top = im.b.reduce("max", x, dims, keepdim=True)
    powers = im.b.pointwise("exp", im.b.pointwise("sub", x, top))
    return top, powers, im.b.reduce("sum", powers, dims, keepdim=True)


def _softmax_operand(im: Import, x: Value, dtype: torch.dtype | None) -> Value:
    asked = from_torch(dtype) if dtype is not None else None
    return im.wide(im.b.cast(x, asked or im.dtype))


@row(aten.softmax.int, aten._softmax.default)
def softmax(im: Import, x: Value, dim: int, dtype: Any = None) -> Value:
    """``dtype`` is what to compute in; in ``_softmax`` whether a half becomes a float, which the result shows."""
    wide = _softmax_operand(im, x, dtype if isinstance(dtype, torch.dtype) else None)
    decline_if(x.type.rank == 0, "the softmax of a scalar")
    _, powers, total = exponentials(im, wide, dim % x.type.rank)
    return im.b.cast(im.b.pointwise("div", powers, total), im.dtype)


@row(aten._safe_softmax.default)
def safe_softmax(im: Import, x: Value, dim: int, dtype: Any = None) -> Value:
    return im.b.cast(safe_probabilities(im, _softmax_operand(im, x, dtype), dim % x.type.rank), im.dtype)


def safe_probabilities(im: Import, x: Value, dim: int) -> Value:
    """Softmax where a row of nothing but minus infinity gives zeros, not NaN."""
    lowest, zero = im.scalar(float("-inf"), x.dtype), im.scalar(0, x.dtype)
    top = im.b.reduce("max", x, (dim,), keepdim=True)
    top = im.b.pointwise("where", im.b.pointwise("eq", top, lowest), zero, top)
    powers = im.b.pointwise("exp", im.b.pointwise("sub", x, top))
    total = im.b.reduce("sum", powers, (dim,), keepdim=True)
    nothing = im.b.pointwise("eq", total, zero)
    return im.b.pointwise("div", powers, im.b.pointwise("where", nothing, im.scalar(1, x.dtype), total))


@row(aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(im: Import, x: Value, dim: int, dtype: Any = None) -> Value:
    wide = _softmax_operand(im, x, dtype if isinstance(dtype, torch.dtype) else None)
    decline_if(x.type.rank == 0, "the softmax of a scalar")
    top, _, total = exponentials(im, wide, dim % x.type.rank)
    shifted = im.b.pointwise("sub", wide, top)
    return im.b.cast(im.b.pointwise("sub", shifted, im.b.pointwise("log", total)), im.dtype)


@row(aten.logsumexp.default)
def logsumexp(im: Import, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    """The sum is that of a softmax, which may be wanted as well. A maximum that is infinite is the result itself."""
    wide = im.wide(im.b.cast(x, im.dtype))
    top, _, total = exponentials(im, wide, *dims_of(x.type.rank, dim))
    result = im.b.pointwise("add", im.b.pointwise("log", total), top)
    result = im.b.pointwise("where", im.b.pointwise("isinf", top), top, result)
    return im.b.cast(im.b.reshape(result, im.shape), im.dtype)
