"""Launching a kernel: what does not change is prepared once, a launch is one call of the driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.binary import Binary
from rooftile.runtime.cuda_driver import EARLY, CudaDriver, LaunchConfig, cuda_driver
from rooftile.runtime.descriptors import BlocksArgument, TensorMap, tensor_map
from rooftile.runtime.interpreter.descriptor import Descriptor
from rooftile.runtime.interpreter.program import Interpreted
from rooftile.runtime.pairs import one_behind_the_other
from rooftile.runtime.resources import Resources, parameter_offsets
from rooftile.runtime.slots import AddressSlots, Argument, TensorSlots


class Launcher(Protocol):
    """A kernel bound to a device.

    ``scratch_bytes`` is the device memory that one program needs beside its arguments.
    """

    scratch_bytes: int

    @property
    def resources(self) -> Resources | None:
        """What a program uses of a GPU beside that; None where it runs on none."""

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument | BlocksArgument]) -> None:
        """Run ``grid`` programs (one to three sizes; none if any is 0), ``arguments`` in the order of the parameters.

        Buffers are tensors on the launcher's device; a CUDA launcher also takes addresses. A descriptor's place is that
        of its buffer among the arguments. Nothing is checked that the plan has checked already: types, devices and
        alignment are the caller's promise.
        """

    def bind(
        self, grid: Sequence[int], slots: Any, numbers: Sequence[int | BlocksArgument], scratch: int | None
    ) -> Callable[[], None]:
        """The launch of ``grid`` programs with the arguments that will stand in these places of ``slots``, which are
        of the kind that the launcher reads; place ``scratch``, if any, holds the address of its scratch memory."""


class CpuLauncher:
    """Runs a kernel on CPU tensors, before it returns."""

    scratch_bytes = 0
    resources: Resources | None = None

    def __init__(self, kernel: Kernel) -> None:
        self._program = Interpreted(kernel.name, kernel.source)
        self._wide = [param.dtype == "i64" for param in kernel.params]

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument | BlocksArgument]) -> None:
        self._run(grid, _numbered(arguments), arguments)

    def bind(
        self, grid: Sequence[int], slots: TensorSlots, numbers: Sequence[int | BlocksArgument], scratch: int | None
    ) -> Callable[[], None]:
        """See ``Launcher``."""
        return lambda: self._run(grid, numbers, slots)

    def _run(self, grid: Sequence[int], numbers: Sequence[int | BlocksArgument], places: Sequence[Any]) -> None:
        given = [self._described(n, places) if isinstance(n, BlocksArgument) else places[n] for n in numbers]
        self._program.run(grid, given, wide=self._wide)

    def _described(self, blocks: BlocksArgument, places: Sequence[Any]) -> Descriptor:
        name, tensor, strides = f"argument {blocks.place} of {self._program.name}", places[blocks.place], blocks.strides
        if blocks.other is not None:
            tensor, apart = one_behind_the_other(tensor, places[blocks.other])
            strides = (apart, *strides[1:])
        return Descriptor.of(tensor, name, blocks.base, blocks.shape, strides, blocks.tile)


class CudaLauncher:
    """Launches a binary on one CUDA device, from any thread, in CUDA graphs too.

    How many parameters a kernel has is read from the binary, so that the hidden ones of any Triton version are there.
    """

    def __init__(self, binary: Binary, device: int, driver: CudaDriver | None = None) -> None:
        self._driver = driver or cuda_driver()
        with self._driver.context_of(device):
            self._function = self._driver.load(binary.cubin, binary.symbol, binary.shared_bytes)
        self._device = device
        self._block = 32 * binary.num_warps
        self._shared = binary.shared_bytes
        self._hidden = len(parameter_offsets(binary.cubin, binary.symbol)) - len(binary.parameters)
        self.scratch_bytes = binary.scratch_bytes
        self._binary = binary

    @property
    def resources(self) -> Resources | None:
        """Read from the binary when somebody asks."""
        return self._binary.resources

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument | BlocksArgument]) -> None:
        scratch = len(arguments)
        slots = AddressSlots(scratch + 1)
        memory = _memory(self.scratch_bytes * programs(grid), self._device)
        for number, argument in enumerate((*arguments, memory)):
            slots.put(number, 0 if isinstance(argument, BlocksArgument) else argument)
        slots.run_on(torch._C._cuda_getCurrentRawStream(self._device))
        self.bind(grid, slots, _numbered(arguments), scratch)()

    def bind(
        self, grid: Sequence[int], slots: AddressSlots, numbers: Sequence[int | BlocksArgument], scratch: int | None
    ) -> Callable[[], None]:
        """See ``Launcher``. The launch goes to the stream that ``slots`` run on."""
        if not programs(grid):
            return lambda: None
        first = slots.nothing if scratch is None else scratch
        hidden = (first, *[slots.nothing] * self._hidden)[: self._hidden]
        layouts = iter(self._binary.descriptors)
        passed = [tensor_map(self._driver, n, next(layouts)) if isinstance(n, BlocksArgument) else n for n in numbers]
        maps = [each for each in passed if isinstance(each, TensorMap)]
        addresses = [each.pointers if isinstance(each, TensorMap) else (slots.at(each),) for each in (*passed, *hidden)]
        parameters = _pointers([address for each in addresses for address in each])
        x, y, z = (*grid, 1, 1)[:3]
        early = (ctypes.addressof(EARLY), 1) if self._binary.waits else (None, 0)
        config = LaunchConfig(x, y, z, self._block, 1, 1, self._shared, None, *early)
        slots.follow(config)
        reference, function = ctypes.byref(config), ctypes.c_void_p(self._function)
        launch, device = self._driver.launch, self._device
        if not maps:
            return lambda: launch(device, reference, function, parameters)

        def described() -> None:
            for each in maps:
                each.follow(slots, device)
            launch(device, reference, function, parameters)

        return described


def _numbered(arguments: Sequence[Argument | BlocksArgument]) -> list[int | BlocksArgument]:
    """The places of the arguments, in order; of descriptors themselves, which say where their buffers are."""
    return [x if isinstance(x, BlocksArgument) else n for n, x in enumerate(arguments)]


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """Pointers as ``cuLaunchKernelEx`` takes its parameters."""
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


def programs(grid: Sequence[int]) -> int:
    """How many programs a grid of one to three sizes has."""
    x, y, z = (*grid, 1, 1)[:3]
    return x * y * z


def _memory(size: int, device: int) -> Argument:
    """Memory for one launch; torch hands it out again behind that launch, on the same stream."""
    return torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", device)) if size else 0
