"""Reductions, scans, sorts and dot products of ``triton.language``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rooftile.runtime.interpreter.dtypes import (
    BF16,
    FLOATING,
    FP16,
    FP32,
    FP64,
    INT8,
    INT32,
    UINT32,
    Array,
    ElementType,
    rounded,
)
from rooftile.runtime.interpreter.tensor import Tensor, tile_shape, to_tensor

Combine = Callable[..., Any]


def _flattened(tensor: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """The tensor and the axis to reduce; all axes (``None``) become one."""
    if axis is None:
        return Tensor(np.reshape(tensor.data, -1), tensor.dtype), 0
    if not -len(tensor.shape) <= axis < len(tensor.shape):
        raise ValueError(f"axis {axis} of a tile of shape {list(tensor.shape)}")
    return tensor, axis % len(tensor.shape)


def _kept(data: Any, source: Tensor, axis: int | None, keep_dims: bool) -> Any:
    """A reduced array with the reduced axes put back as 1 if asked."""
    if not keep_dims:
        return data
    shape = [1] * len(source.shape) if axis is None else list(source.shape)
    if axis is not None:
        shape[axis] = 1
    return np.reshape(data, shape)


def _promoted(tensor: Tensor, *, floats: bool) -> Tensor:
    """Integers below 32 bits as 32 bits; with ``floats`` narrow floats as fp32, which Triton does for max and min."""
    dtype = tensor.element
    if dtype.bits >= 32:
        return tensor
    if dtype.kind == FLOATING:
        return tensor.to(FP32) if floats else tensor
    return tensor.to(INT32 if dtype.signed or floats else UINT32)


def _by_ufunc(ufunc: np.ufunc, tensor: Tensor, axis: int | None, keep_dims: bool) -> Tensor:
    flat, along = _flattened(tensor, axis)
    data = ufunc.reduce(flat.data, axis=along, dtype=flat.element.held)
    return Tensor(_kept(rounded(data, flat.element), tensor, axis, keep_dims), tensor.dtype)


def total(input: Tensor, axis: int | None = None, keep_dims: bool = False, dtype: ElementType | None = None) -> Tensor:
    """``tl.sum``."""
    tensor = input.to(dtype) if dtype is not None else _promoted(input, floats=False)
    return _by_ufunc(np.add, tensor, axis, keep_dims)


def _extreme(ufunc: np.ufunc) -> Callable[..., Any]:
    """``tl.max`` or ``tl.min``: NaN loses against any number, as in Triton; the lowest index wins ties."""

    def call(
        input: Tensor,
        axis: int | None = None,
        return_indices: bool = False,
        return_indices_tie_break_left: bool = True,
        keep_dims: bool = False,
    ) -> Any:
        tensor = _promoted(input, floats=True)
        value = _by_ufunc(ufunc, tensor, axis, keep_dims)
        if not return_indices:
            return value
        flat, along = _flattened(tensor, axis)
        best = ufunc.reduce(flat.data, axis=along, keepdims=True)
        index = np.argmax((flat.data == best) | np.isnan(best), axis=along)
        return value, Tensor(_kept(np.asarray(index, dtype=np.int32), tensor, axis, keep_dims), INT32)

    return call


maximum_of = _extreme(np.fmax)
minimum_of = _extreme(np.fmin)


def argmax(input: Tensor, axis: int | None, tie_break_left: bool = True, keep_dims: bool = False) -> Any:
    """``tl.argmax``."""
    return maximum_of(input, axis, return_indices=True, keep_dims=keep_dims)[1]


def argmin(input: Tensor, axis: int | None, tie_break_left: bool = True, keep_dims: bool = False) -> Any:
    """``tl.argmin``."""
    return minimum_of(input, axis, return_indices=True, keep_dims=keep_dims)[1]


def _bitwise_reduction(ufunc: np.ufunc) -> Callable[..., Tensor]:
    def call(input: Tensor, axis: int | None = None, keep_dims: bool = False) -> Tensor:
        if input.element.kind == FLOATING:
            raise TypeError("a bitwise reduction takes integers")
        return _by_ufunc(ufunc, input, axis, keep_dims)

    return call


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _slices(tensors: tuple[Tensor, ...], axis: int, part: slice) -> list[Tensor]:
    index = (slice(None),) * axis + (part,)
    return [Tensor(t.data[index], t.dtype) for t in tensors]


def reduce(input: Any, axis: int | None, combine_fn: Combine, keep_dims: bool = False) -> Any:
    """``tl.reduce`` with any combine function, over one tensor or a tuple: neighbours, then pairs, and so on."""
    tensors = _as_tuple(input)
    flat = tuple(_flattened(t, axis)[0] for t in tensors)
    along = _flattened(tensors[0], axis)[1]
    while flat[0].shape[along] > 1:
        left, right = (_slices(flat, along, slice(start, None, 2)) for start in (0, 1))
        combined = _as_tuple(combine_fn(*left, *right))
        flat = tuple(to_tensor(c).to(t.dtype) for c, t in zip(combined, flat, strict=True))
    results = tuple(
        Tensor(_kept(np.take(f.data, 0, axis=along), t, axis, keep_dims), t.dtype)
        for f, t in zip(flat, tensors, strict=True)
    )
    return results if isinstance(input, list | tuple) else results[0]


def associative_scan(input: Any, axis: int, combine_fn: Combine, reverse: bool = False) -> Any:
    """``tl.associative_scan``: inclusive, in log steps (Hillis and Steele, 1986)."""
    tensors = _as_tuple(input)
    along = _flattened(tensors[0], axis)[1]
    flat = tuple(_flipped(t, along) if reverse else t for t in tensors)
    step = 1
    while step < tensors[0].shape[along]:
        earlier = _slices(flat, along, slice(None, -step))
        later = _slices(flat, along, slice(step, None))
        combined = _as_tuple(combine_fn(*earlier, *later))
        heads = _slices(flat, along, slice(None, step))
        flat = tuple(
            Tensor(np.concatenate([head.data, to_tensor(c).to(head.dtype).data], axis=along), head.dtype)
            for head, c in zip(heads, combined, strict=True)
        )
        step *= 2
    results = tuple(_flipped(t, along) if reverse else t for t in flat)
    return results if isinstance(input, list | tuple) else results[0]


def _flipped(tensor: Tensor, axis: int) -> Tensor:
    return Tensor(np.flip(tensor.data, axis), tensor.dtype)


def _running(ufunc: np.ufunc, tensor: Tensor, axis: int, reverse: bool) -> Tensor:
    along = _flattened(tensor, axis)[1]
    source = _flipped(tensor, along) if reverse else tensor
    result = Tensor(ufunc.accumulate(source.data, axis=along, dtype=tensor.element.held), tensor.dtype)
    return _flipped(result, along) if reverse else result


def cumsum(input: Tensor, axis: int = 0, reverse: bool = False, dtype: ElementType | None = None) -> Tensor:
    """``tl.cumsum``."""
    tensor = input.to(FP32) if input.dtype is BF16 else input
    tensor = tensor.to(dtype) if dtype is not None else _promoted(tensor, floats=False)
    return _running(np.add, tensor, axis, reverse)


def cumprod(input: Tensor, axis: int = 0, reverse: bool = False) -> Tensor:
    """``tl.cumprod``."""
    return _running(np.multiply, input.to(FP32) if input.dtype is BF16 else input, axis, reverse)


def sort(x: Tensor, dim: int | None = None, descending: bool = False) -> Tensor:
    """``tl.sort`` along the last axis."""
    ordered = np.sort(x.data, axis=-1)
    return Tensor(np.flip(ordered, -1) if descending else ordered, x.dtype)


def topk(x: Tensor, k: int, dim: int | None = None) -> Tensor:
    """``tl.topk``: the ``k`` largest along the last axis, in descending order."""
    (size,) = tile_shape(k)
    return Tensor(sort(x, descending=True).data[..., :size], x.dtype)


def histogram(input: Tensor, num_bins: int, mask: Tensor | None = None) -> Tensor:
    """``tl.histogram``: counts of the values ``0 .. num_bins - 1``."""
    values = np.asarray(input.data if mask is None else input.data[mask.data])
    inside = values[(values >= 0) & (values < num_bins)]
    return Tensor(np.bincount(inside.astype(np.int64), minlength=num_bins).astype(np.int32), INT32)


def gather(src: Tensor, index: Tensor, axis: int) -> Tensor:
    """``tl.gather``: ``src`` at ``index`` along one axis."""
    return Tensor(np.take_along_axis(src.data, np.asarray(index.data, dtype=np.int64), axis=axis), src.dtype)


def dot(
    input: Tensor,
    other: Tensor,
    acc: Tensor | None = None,
    input_precision: str | None = None,
    allow_tf32: bool | None = None,
    max_num_imprecise_acc: int | None = None,
    out_dtype: ElementType = FP32,
) -> Tensor:
    """``tl.dot``: accumulated in fp32 (fp64 for fp64, int32 for int8), whatever ``input_precision`` lets a GPU do."""
    if input.shape[-1] != other.shape[-2] or len(input.shape) != len(other.shape):
        raise ValueError(f"a dot of {list(input.shape)} by {list(other.shape)}: the contracted sizes differ")
    if input.dtype is not other.dtype and not (input.element.bits == other.element.bits == 8):
        raise TypeError(f"a dot of {input.dtype} by {other.dtype}: the types differ")
    kind = _accumulator(input.element, out_dtype)
    product = _product(input.data, other.data, kind)
    if acc is None:
        return Tensor(rounded(product, kind), kind)
    if acc.dtype is not kind or acc.shape != product.shape:
        raise TypeError(f"a dot into {acc.dtype}{list(acc.shape)} that gives {kind}{list(product.shape)}")
    return Tensor(rounded(product + acc.data, kind), kind)


def _accumulator(dtype: ElementType, out_dtype: ElementType) -> ElementType:
    if dtype.kind != FLOATING:
        if dtype is not INT8:
            raise TypeError(f"a dot of integers takes int8, not {dtype}")
        return INT32
    if dtype is FP64:
        return FP64
    return FP16 if out_dtype is FP16 and dtype not in (FP32, BF16) else FP32


def _product(a: Array, b: Array, kind: ElementType) -> Array:
    """Integers are multiplied as fp64, exactly: numpy has no fast integer matmul."""
    if kind is INT32:
        a, b = a.astype(np.float64), b.astype(np.float64)
    product: Array = np.matmul(a, b)
    return product.astype(np.int64).astype(np.int32) if kind is INT32 else product


def functions() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` in this file, by name."""
    return {
        "sum": total,
        "max": maximum_of,
        "min": minimum_of,
        "argmax": argmax,
        "argmin": argmin,
        "xor_sum": _bitwise_reduction(np.bitwise_xor),
        "reduce_or": _bitwise_reduction(np.bitwise_or),
        "reduce": reduce,
        "associative_scan": associative_scan,
        "cumsum": cumsum,
        "cumprod": cumprod,
        "sort": sort,
        "topk": topk,
        "histogram": histogram,
        "gather": gather,
        "dot": dot,
    }
