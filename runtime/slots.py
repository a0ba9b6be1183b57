"""What launches read their arguments from: one place for each buffer and size of a plan.

A launch is bound to places once; a call then writes the addresses of its tensors, and every launch finds them.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import TypeAlias

import torch

from rooftile.runtime.cuda_driver import LaunchConfig

Argument: TypeAlias = torch.Tensor | int


class TensorSlots(list[Argument]):
    """Places as the CPU's evaluator reads them: tensors as they are."""

    def __init__(self, count: int) -> None:
        super().__init__([0] * count)

    put = list.__setitem__


class AddressSlots:
    """Places as the CUDA driver reads them: 64 bits each, a tensor as its address.

    A 32-bit argument is read from the lower half of its place, which is the first one on a little-endian machine.
    Place ``nothing``, behind the others, stays zero.
    """

    def __init__(self, count: int) -> None:
        self.nothing = count
        self.values = (ctypes.c_uint64 * (count + 1))()
        self._start = ctypes.addressof(self.values)
        self._configs: list[LaunchConfig] = []
        self._stream = 0

    def put(self, number: int, argument: Argument) -> None:
        """Write one place."""
        self.values[number] = argument if type(argument) is int else argument.data_ptr()  # type: ignore[union-attr]

    def put_first(self, values: Sequence[int]) -> None:
        """Write the first places."""
        struct.pack_into(f"@{len(values)}Q", self.values, 0, *values)

    def at(self, number: int) -> int:
        """The address of a place."""
        return self._start + 8 * number

    def follow(self, config: LaunchConfig) -> None:
        """Keep a launch's stream what ``run_on`` says."""
        config.stream = self._stream
        self._configs.append(config)

    @property
    def stream(self) -> int:
        """The stream that launches run on."""
        return self._stream

    def run_on(self, stream: int) -> None:
        """Bind every launch to a stream, given by its handle."""
        if stream != self._stream:
            self._stream = stream
            for config in self._configs:
                config.stream = stream
