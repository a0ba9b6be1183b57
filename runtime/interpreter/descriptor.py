"""Tensor descriptors: blocks of a strided tensor in memory, padded where they reach over its edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rooftile.runtime.interpreter.dtypes import Array, ElementType, decode, encode
from rooftile.runtime.interpreter.memory import Memory, OutOfBounds
from rooftile.runtime.interpreter.tensor import PointerType, Tensor, tile_shape

ALIGNMENT = 16  # bytes, of the base, of every stride but the last, and of a block's row


def _integer(value: Any) -> int:
    return int(value.data) if isinstance(value, Tensor) else int(value)


class Descriptor:
    """What ``tl.make_tensor_descriptor`` returns, or a kernel is given; its checks are those of a GPU's bulk copies."""

    @staticmethod
    def of(
        tensor: torch.Tensor, name: str, base: int, shape: Sequence[int], strides: Sequence[int], tile: Sequence[int]
    ) -> Descriptor:
        """One of the blocks of a CPU tensor, whose memory it shares, from element ``base`` on."""
        return Descriptor(Tensor(np.int64(base), PointerType(Memory(tensor, name))), shape, strides, tile)

    def __init__(
        self,
        base: Tensor,
        shape: Sequence[Any],
        strides: Sequence[Any],
        block_shape: Sequence[int],
        padding_option: str = "zero",
    ) -> None:
        if not isinstance(base.dtype, PointerType) or base.shape != ():
            raise TypeError("a descriptor's base must be a scalar pointer")
        self.memory = base.dtype.memory
        self.shape = [_integer(size) for size in shape]
        self.strides = [_integer(stride) for stride in strides]
        self.block_shape = list(tile_shape(block_shape))
        self.fill = {"zero": 0, "nan": np.nan}[padding_option]
        self._check(int(base.data))
        line = self.memory.flat[int(base.data) :]
        steps = [stride * line.itemsize for stride in self.strides]
        self.view: Array = np.lib.stride_tricks.as_strided(line, self.shape, steps)

    @property
    def dtype(self) -> ElementType:
        return self.memory.dtype

    def _check(self, start: int) -> None:
        size = self.memory.flat.itemsize
        if not len(self.shape) == len(self.strides) == len(self.block_shape):
            raise ValueError("a descriptor's shape, strides and block differ in rank")
        if self.strides[-1] != 1:
            raise ValueError(f"a descriptor's last stride must be 1, got {self.strides}")
        elements = (start, *self.strides[:-1], self.block_shape[-1])
        if self.memory.address % ALIGNMENT or any(n * size % ALIGNMENT for n in elements):
            raise ValueError(
                f"a descriptor's base, strides and block rows must be multiples of {ALIGNMENT} bytes: strides "
                f"{self.strides}, block {self.block_shape} of {self.dtype}, base at element {start} of "
                f"`{self.memory.name}`"
            )
        last = start + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if all(self.shape) and not 0 <= start <= last < self.memory.flat.size:
            has = f"`{self.memory.name}`, which has {self.memory.flat.size}"
            raise OutOfBounds(f"a descriptor reaches elements {start} to {last} of {has}")

    def _overlap(self, offsets: Sequence[Any]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of the block at ``offsets`` that lies in the tensor, as slices of the tensor and of the block."""
        if len(offsets) != len(self.shape):
            raise ValueError(f"{len(offsets)} offsets for a descriptor of rank {len(self.shape)}")
        inside, within = [], []
        for offset, block, size in zip(map(_integer, offsets), self.block_shape, self.shape, strict=True):
            low, high = min(max(offset, 0), size), max(min(offset + block, size), 0)
            inside.append(slice(low, max(low, high)))
            within.append(slice(low - offset, max(low, high) - offset) if high > low else slice(0, 0))
        return tuple(inside), tuple(within)

    def load(self, offsets: Sequence[Any], cache_modifier: str = "", eviction_policy: str = "") -> Tensor:
        """The block at ``offsets``; what lies outside the tensor reads as the padding."""
        inside, within = self._overlap(offsets)
        part = decode(self.view[inside], self.dtype)
        if part.shape == tuple(self.block_shape):
            return Tensor(part, self.dtype)
        block = np.full(self.block_shape, self.fill, dtype=self.dtype.held)
        block[within] = part
        return Tensor(block, self.dtype)

    def store(self, offsets: Sequence[Any], value: Tensor) -> None:
        """Write a block at ``offsets``; what lies outside the tensor is dropped."""
        inside, within = self._overlap(offsets)
        self._check_block(value)
        self.view[inside] = encode(value.to(self.dtype).data, self.dtype)[within]

    def atomic_add(self, offsets: Sequence[Any], value: Tensor) -> None:
        """Add a block at ``offsets``."""
        inside, within = self._overlap(offsets)
        self._check_block(value)
        old = Tensor(decode(self.view[inside], self.dtype), self.dtype)
        added = old + Tensor(value.to(self.dtype).data[within], self.dtype)
        self.view[inside] = encode(added.data, self.dtype)

    def gather(self, x_offsets: Tensor, y_offset: Any) -> Tensor:
        """Rows ``x_offsets`` of a two-dimensional tensor, from column ``y_offset`` on."""
        rows = [self.load([int(row), y_offset]).data[0] for row in x_offsets.data]
        return Tensor(np.stack(rows), self.dtype)

    def scatter(self, value: Tensor, x_offsets: Tensor, y_offset: Any) -> None:
        """Write rows ``x_offsets`` of a two-dimensional tensor, from column ``y_offset`` on."""
        for row, line in zip(x_offsets.data, value.data, strict=True):
            self.store([int(row), y_offset], Tensor(line[None, :], value.dtype))

    def _check_block(self, value: Tensor) -> None:
        if value.shape != tuple(self.block_shape):
            raise ValueError(f"a tile of shape {list(value.shape)} for a descriptor whose block is {self.block_shape}")
