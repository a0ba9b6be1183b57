"""Two buffers read as one: how far apart they lie is the stride of one more dimension of a descriptor.

The hardware takes any multiple of 16 bytes, none too, up to a limit that torch's allocations keep to. Where two lie
further apart, a launch copies both behind one another first.
"""

from __future__ import annotations

import ctypes

import torch

from rooftile.ir.blocks import ALIGNMENT
from rooftile.runtime.cuda_driver import CudaDriver
from rooftile.runtime.slots import AddressSlots

MOST_APART = 2**40  # bytes: strides of descriptors are below


class Pair:
    """Two buffers of which a kernel reads the bytes from ``offset`` on, ``count`` of each."""

    def __init__(self, driver: CudaDriver, offset: int, count: int) -> None:
        self._driver = driver
        self._offset, self._count = offset, count
        self._memory: torch.Tensor | None = None

    def placed(self, first: int, second: int, slots: AddressSlots, device: int) -> tuple[int, int]:
        """Addresses at which both stand, the one that lies lower still being that: their own, or those of copies that
        are made on the stream that ``slots`` run on."""
        distance = abs(second - first)
        if distance < MOST_APART and distance % ALIGNMENT == 0:
            return first, second
        each = -(-(self._offset + self._count) // ALIGNMENT) * ALIGNMENT
        if self._memory is None:
            self._memory = torch.empty(2 * each, dtype=torch.uint8, device=torch.device("cuda", device))
        lower = self._memory.data_ptr()
        there = (lower + each, lower) if second < first else (lower, lower + each)
        with self._driver.context_of(device):
            for source, target in zip((first, second), there, strict=True):
                self._driver.call(
                    "cuMemcpyDtoDAsync_v2",
                    ctypes.c_uint64(target + self._offset),
                    ctypes.c_uint64(source + self._offset),
                    ctypes.c_size_t(self._count),
                    ctypes.c_void_p(slots.stream),
                )
        return there


def one_behind_the_other(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A copy of two CPU tensors laid out alike, the one first that lies lower in memory; how many elements the second
    begins behind the first."""
    multiple = ALIGNMENT // first.element_size()
    lines = [each.detach().reshape(-1) for each in sorted((first, second), key=torch.Tensor.data_ptr)]
    apart = -(-first.numel() // multiple) * multiple
    both = first.new_empty(2 * apart)
    for number, line in enumerate(lines):
        both[number * apart :][: len(line)] = line
    return both, apart
