"""Tensor descriptors as arguments of a launch: what tells a GPU's bulk copies which strided tensor they cut blocks of.

A descriptor is made for an address, and kept as long as the buffer stays there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rooftile.codegen.kernel import Blocks, Kernel, KernelParam
from rooftile.ir.substitution import evaluate
from rooftile.runtime.binary import DescriptorLayout
from rooftile.runtime.cuda_driver import CudaDriver
from rooftile.runtime.pairs import Pair
from rooftile.runtime.slots import AddressSlots

_MAP_BYTES = 128  # of a CUtensorMap
_MAP_ALIGNMENT = 64
# CUtensorMapDataType, and the bytes of an element.
_ELEMENTS: Mapping[str, tuple[int, int]] = {
    "f32": (7, 4),
    "bf16": (9, 2),
    "f16": (6, 2),
    "f8e4m3": (0, 1),
    "f8e5m2": (0, 1),
    "i32": (3, 4),
    "i16": (1, 2),
    "i8": (0, 1),
    "u8": (0, 1),
}
_NO_INTERLEAVE, _L2_OF_128_BYTES, _ZEROS_OUTSIDE = 0, 2, 0


@dataclass(frozen=True)
class BlocksArgument:
    """A descriptor to be made of the buffer in one place of a launch's arguments, for one set of sizes; all is counted
    in elements. With the place of an ``other`` buffer, its first dimension leads from the one of both that lies lower
    in memory to the other, and the stride of that isn't known yet."""

    place: int
    dtype: str
    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    tile: tuple[int, ...]
    other: int | None


def blocks_argument(
    param: KernelParam, blocks: Blocks, places: Mapping[str, int], sizes: Mapping[str, int]
) -> BlocksArgument:
    """The argument for ``param``, a descriptor of ``blocks``; ``places`` are those of the kernel's buffers."""
    shape, strides = (tuple(evaluate(size, sizes) for size in of) for of in (blocks.shape, blocks.strides))
    base, other = evaluate(blocks.base, sizes), None if blocks.other is None else places[blocks.other]
    return BlocksArgument(places[blocks.buffer], param.dtype, base, shape, strides, blocks.tile, other)


def launch_arguments(
    kernel: Kernel, buffers: Sequence[torch.Tensor | int], sizes: Mapping[str, int]
) -> list[torch.Tensor | int | BlocksArgument]:
    """What a launcher of ``kernel`` is called with: its ``buffers`` in order, sizes by name, and descriptors."""
    places = {p.name: n for n, p in enumerate(p for p in kernel.params if p.kind == "buffer")}
    numbers = [sizes[p.size] for p in kernel.params if p.kind == "size"]
    described = [blocks_argument(p, p.blocks, places, sizes) for p in kernel.params if p.blocks is not None]
    return [*buffers, *numbers, *described]


class TensorMap:
    """The driver's form of a descriptor, in memory of its own, with the sizes that kernels are passed beside it."""

    def __init__(self, driver: CudaDriver, argument: BlocksArgument, layout: DescriptorLayout) -> None:
        element, size = _ELEMENTS[argument.dtype]
        rank = len(argument.shape)
        self._place, self._size = argument.place, size
        self._offset = argument.base * size
        self._address = -1
        self._memory = (ctypes.c_uint8 * (_MAP_BYTES + _MAP_ALIGNMENT))()
        start = -(-ctypes.addressof(self._memory) // _MAP_ALIGNMENT) * _MAP_ALIGNMENT
        self._shape = (ctypes.c_int32 * rank)(*argument.shape)
        self._strides = (ctypes.c_int64 * rank)(*argument.strides)
        self.pointers = (start, *_each(self._shape, 4), *_each(self._strides, 8))
        # The driver counts dimensions from the contiguous one.
        self._extents = (ctypes.c_uint64 * rank)(*reversed(argument.shape))
        self._steps = (ctypes.c_uint64 * max(rank - 1, 1))(*(s * size for s in reversed(argument.strides[:-1])))
        self._box = (ctypes.c_uint32 * rank)(*reversed(layout.box))
        self._element_steps = (ctypes.c_uint32 * rank)(*[1] * rank)
        self._fixed = (ctypes.c_void_p(start), element, rank)
        self._swizzle = layout.swizzle
        self._driver = driver

    def follow(self, slots: AddressSlots, device: int) -> None:
        """Describe the buffer whose address stands in its place of ``slots``. Raises CudaError where the hardware
        cannot."""
        address = slots.values[self._place]
        if address != self._address:
            self._encode(address)
            self._address = address

    def _encode(self, address: int) -> None:
        self._driver.call(
            "cuTensorMapEncodeTiled",
            *self._fixed,
            ctypes.c_void_p(address + self._offset),
            self._extents,
            self._steps,
            self._box,
            self._element_steps,
            _NO_INTERLEAVE,
            self._swizzle,
            _L2_OF_128_BYTES,
            _ZEROS_OUTSIDE,
        )


class TensorMapOfTwo(TensorMap):
    """A descriptor whose outermost dimension leads from one buffer to another."""

    def __init__(self, driver: CudaDriver, argument: BlocksArgument, layout: DescriptorLayout, other: int) -> None:
        super().__init__(driver, argument, layout)
        span = 1 + sum((n - 1) * s for n, s in zip(argument.shape, argument.strides, strict=True))
        self._other, self._pair = other, Pair(driver, self._offset, span * self._size)
        self._addresses = (-1, -1)

    def follow(self, slots: AddressSlots, device: int) -> None:
        """Describe both buffers, or copies of them where the hardware cannot reach from one to the other."""
        first, second = self._pair.placed(slots.values[self._place], slots.values[self._other], slots, device)
        if (first, second) != self._addresses:
            distance = abs(second - first)
            self._steps[len(self._steps) - 1] = distance
            self._strides[0] = distance // self._size
            self._encode(min(first, second))
            self._addresses = (first, second)


def tensor_map(driver: CudaDriver, argument: BlocksArgument, layout: DescriptorLayout) -> TensorMap:
    """What describes the buffers of ``argument`` to a kernel that wants this ``layout``."""
    if argument.other is None:
        return TensorMap(driver, argument, layout)
    return TensorMapOfTwo(driver, argument, layout, argument.other)


def _each(array: ctypes.Array[ctypes.c_int32] | ctypes.Array[ctypes.c_int64], size: int) -> Sequence[int]:
    start = ctypes.addressof(array)
    return range(start, start + size * len(array), size)
