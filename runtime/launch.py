"""Launching a kernel: everything that does not change is prepared once, a launch packs its arguments and goes."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.binary import Binary
from rooftile.runtime.cuda_driver import CudaDriver, cuda_driver
from rooftile.runtime.interpreter.program import Interpreted
from rooftile.runtime.resources import parameter_offsets

Argument: TypeAlias = torch.Tensor | int


class Launcher(Protocol):
    """A kernel bound to a device."""

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument]) -> None:
        """Run ``grid`` programs (one to three sizes; none if any is 0), ``arguments`` in the order of the parameters.

        Buffers are tensors on the launcher's device; a CUDA launcher also takes addresses. Nothing is checked that the
        plan has checked already: types, devices and alignment are the caller's promise.
        """


class CpuLauncher:
    """Runs a kernel on CPU tensors, before it returns."""

    def __init__(self, kernel: Kernel) -> None:
        self._program = Interpreted(kernel.name, kernel.source)
        self._wide = [param.dtype == "i64" for param in kernel.params]

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument]) -> None:
        self._program.run(grid, arguments, wide=self._wide)


class CudaLauncher:
    """Launches a binary on the current stream of one CUDA device, from any thread, in CUDA graphs too.

    The arguments are packed into one block of memory whose layout is the binary's own (read from the cubin, so that
    hidden parameters of any Triton version are there); pointers to its parts are prepared once.
    """

    def __init__(self, binary: Binary, device: int, driver: CudaDriver | None = None) -> None:
        self._driver = driver or cuda_driver()
        with self._driver.context_of(device):
            self._function = self._driver.load(binary.cubin, binary.symbol, binary.shared_bytes)
        self._device = device
        self._block = 32 * binary.num_warps
        self._shared = binary.shared_bytes
        self._scratch = _Scratch(binary.scratch_bytes, device) if binary.scratch_bytes else None
        offsets = parameter_offsets(binary.cubin, binary.symbol)
        self._hidden = len(offsets) - len(binary.parameters)
        self._pack = struct.Struct(_layout(binary.parameters, self._hidden)).pack_into
        self._values = ctypes.create_string_buffer(offsets[-1] + 8 if offsets else 8)
        address = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * max(1, len(offsets)))(*(address + offset for offset in offsets))
        self._lock = threading.Lock()

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument]) -> None:
        x, y, z = (*grid, 1, 1)[:3]
        programs = x * y * z
        if not programs:
            return
        stream = torch._C._cuda_getCurrentRawStream(self._device)
        values = [value if type(value) is int else value.data_ptr() for value in arguments]  # type: ignore[union-attr]
        hidden = [0] * self._hidden
        if self._scratch is not None:
            hidden[0] = self._scratch.address(programs, stream)
        with self._lock:
            self._pack(self._values, 0, *values, *hidden)
            self._driver.launch(
                self._device, self._function, x, y, z, self._block, 1, 1, self._shared, stream, self._pointers, None
            )


def _layout(parameters: Sequence[str], hidden: int) -> str:
    """The parameter block as ``struct`` writes it: natural alignment, little-endian, pointers for what Triton adds."""
    codes = {"ptr": "Q", "i64": "q", "i32": "i"}
    return "@" + "".join(codes[kind] for kind in parameters) + "Q" * hidden


class _Scratch:
    """Global memory for programs' tensor descriptors, one buffer per stream.

    A buffer that became too small is kept: a captured graph may still write to it.
    """

    def __init__(self, bytes_per_program: int, device: int) -> None:
        self._bytes = bytes_per_program
        self._device = device
        self._buffers: dict[int, list[torch.Tensor]] = {}

    def address(self, programs: int, stream: int) -> int:
        """The address of memory for ``programs`` programs, aligned to at least 512 bytes as torch's allocator does."""
        size = self._bytes * programs
        buffers = self._buffers.setdefault(stream, [])
        if not buffers or buffers[-1].numel() < size:
            rounded = 1 << (size - 1).bit_length()
            buffers.append(torch.empty(rounded, dtype=torch.uint8, device=torch.device("cuda", self._device)))
        return buffers[-1].data_ptr()
