"""Making tiles and changing their shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rooftile.runtime.interpreter.dtypes import INT32, ElementType
from rooftile.runtime.interpreter.tensor import Operand, Tensor, full, tile_shape, to_tensor


def arange(start: int, end: int) -> Tensor:
    """``tl.arange``."""
    tile_shape(end - start)
    return Tensor(np.arange(start, end, dtype=np.int32), INT32)


def zeros(shape: Any, dtype: ElementType) -> Tensor:
    """``tl.zeros``."""
    return full(shape, 0, dtype)


def zeros_like(input: Tensor) -> Tensor:
    """``tl.zeros_like``."""
    return full(input.shape, 0, input.element)


def cast(input: Operand, dtype: Any, fp_downcast_rounding: str | None = None, bitcast: bool = False) -> Tensor:
    """``tl.cast``."""
    tensor: Tensor = to_tensor(input)
    return tensor.to(dtype, fp_downcast_rounding, bitcast)


def reshape(input: Tensor, *shape: Any, can_reorder: bool = False) -> Tensor:
    """``tl.reshape`` and ``tl.view``."""
    return Tensor(np.reshape(input.data, tile_shape(_variadic(shape))), input.dtype)


def ravel(x: Tensor, can_reorder: bool = False) -> Tensor:
    """``tl.ravel``."""
    return Tensor(np.reshape(x.data, -1), x.dtype)


def broadcast_to(input: Operand, *shape: Any) -> Tensor:
    """``tl.broadcast_to``."""
    tensor: Tensor = to_tensor(input)
    return Tensor(np.broadcast_to(tensor.data, tile_shape(_variadic(shape))), tensor.dtype)


def broadcast(input: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """``tl.broadcast``."""
    left, right = np.broadcast_arrays(input.data, other.data)
    return Tensor(left, input.dtype), Tensor(right, other.dtype)


def expand_dims(input: Operand, axis: Any) -> Tensor:
    """``tl.expand_dims``."""
    tensor: Tensor = to_tensor(input)
    return Tensor(np.expand_dims(tensor.data, axis), tensor.dtype)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """``tl.permute``."""
    return Tensor(np.transpose(input.data, _variadic(dims)), input.dtype)


def trans(input: Tensor, *dims: Any) -> Tensor:
    """``tl.trans``: the last two axes swapped unless an order is given."""
    return permute(input, *dims) if dims else input.T


def join(a: Tensor, b: Tensor) -> Tensor:
    """``tl.join``: along a new last axis."""
    x, y = broadcast(a, b)
    return Tensor(np.stack([x.data, y.data], axis=-1), a.dtype)


def split(a: Tensor) -> tuple[Tensor, Tensor]:
    """``tl.split``: the two halves of a last axis of size 2."""
    if a.shape[-1] != 2:
        raise ValueError(f"`split` takes a last axis of 2, got {list(a.shape)}")
    return Tensor(a.data[..., 0], a.dtype), Tensor(a.data[..., 1], a.dtype)


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """``tl.interleave``: the two tensors alternate along the last axis."""
    joined = join(a, b)
    return Tensor(np.reshape(joined.data, (*joined.shape[:-2], -1)), a.dtype)


def cat(input: Tensor, other: Tensor, can_reorder: bool = False, dim: int = 0) -> Tensor:
    """``tl.cat``."""
    return Tensor(np.concatenate([input.data, other.data], axis=dim), input.dtype)


def flip(x: Tensor, dim: int | None = None) -> Tensor:
    """``tl.flip``, along the last axis unless told."""
    return Tensor(np.flip(x.data, -1 if dim is None else dim), x.dtype)


def _variadic(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], list | tuple) else values


def constructors() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` that make tiles, by name."""
    return {"arange": arange, "full": full, "zeros": zeros, "zeros_like": zeros_like, "to_tensor": to_tensor}


def functions() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` that give tiles another shape or type, by name."""
    shapes = (reshape, ravel, broadcast_to, broadcast, expand_dims, permute, trans, join, split, interleave, cat, flip)
    return {function.__name__: function for function in shapes} | {"view": reshape, "cast": cast}
