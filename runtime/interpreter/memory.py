"""Buffers that kernels read and write, with every access checked against the buffer's bounds."""

from __future__ import annotations

import numpy as np
import torch

from rooftile.ir.strides import span
from rooftile.runtime.interpreter.dtypes import FLOATING, OF_TORCH, Array, ElementType, decode, encode


class OutOfBounds(IndexError):
    """A kernel touched an element outside the tensor that it was given."""


_RAW_VIEWS = {  # what numpy has no type for
    torch.bfloat16: torch.int16,
    torch.float8_e4m3fn: torch.uint8,
    torch.float8_e5m2: torch.uint8,
    torch.bool: torch.uint8,
}


class Memory:
    """The elements of one CPU tensor, as a flat array of their bits that shares its storage."""

    __slots__ = ("address", "dtype", "flat", "name")

    def __init__(self, tensor: torch.Tensor, name: str) -> None:
        self.name = name
        self.dtype: ElementType = OF_TORCH[tensor.dtype]
        self.address = tensor.data_ptr()
        line = tensor.detach().as_strided((span(tensor.shape, tensor.stride()),), (1,))
        self.flat: Array = line.view(_RAW_VIEWS.get(tensor.dtype, tensor.dtype)).numpy().view(self.dtype.raw)

    def check(self, index: Array) -> None:
        """Raise ``OutOfBounds`` unless every index is an element of this buffer."""
        if np.size(index) == 0:
            return
        low, high = int(np.min(index)), int(np.max(index))
        if low < 0 or high >= self.flat.size:
            wrong = low if low < 0 else high
            raise OutOfBounds(f"element {wrong} of `{self.name}`, which has {self.flat.size} elements of {self.dtype}")

    def load(self, index: Array, mask: Array | None, other: Array | None) -> Array:
        """The values at ``index`` (in elements); where ``mask`` is false ``other``, or NaN (integers: 0) without."""
        if mask is None or np.all(mask):
            self.check(index)
            return decode(np.take(self.flat, index, mode="clip"), self.dtype)
        if other is None:
            other = np.asarray(np.nan if self.dtype.kind == FLOATING else 0, dtype=self.dtype.held)
        if not np.any(mask):
            return np.broadcast_to(other, np.broadcast_shapes(np.shape(index), np.shape(mask))).copy()
        safe = np.where(mask, index, 0)
        self.check(safe)
        return np.where(mask, decode(np.take(self.flat, safe, mode="clip"), self.dtype), other)

    def store(self, index: Array, values: Array, mask: Array | None) -> None:
        """Write ``values`` (held, already of this buffer's type) at ``index`` where ``mask`` is true."""
        bits = np.broadcast_to(encode(values, self.dtype), np.shape(index))
        if mask is not None and not np.all(mask):
            chosen = np.broadcast_to(mask, np.shape(index))
            index, bits = np.asarray(index)[chosen], bits[chosen]
        self.check(index)
        self.flat[index] = bits
