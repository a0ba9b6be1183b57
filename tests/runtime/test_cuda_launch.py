"""What a CUDA launch hands to the driver, against a driver of our own: Python functions behind C pointers."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rooftile.runtime.binary import Binary
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.cuda_driver import CudaDriver, CudaError
from rooftile.runtime.launch import CudaLauncher
from tests.runtime import kernels

FUNCTION, STREAM, PRIMARY = 0x7F00_0000_1234, 0x7F00_0000_5678, 0x7F00_0000_9000
POINTER, WORD = ctypes.c_void_p, ctypes.c_uint


def give(place: Any, value: int) -> int:
    """Write an address where the driver's caller wants it; the status is success."""
    ctypes.cast(place, ctypes.POINTER(POINTER))[0] = value
    return 0


class FakeCuda:
    """Records launches and attributes; ``statuses`` are what the next launches return."""

    def __init__(self) -> None:
        self.launches: list[SimpleNamespace] = []
        self.attributes: list[tuple[int, int]] = []
        self.current = 0
        self.statuses: list[int] = []
        self.parameter_bytes: list[int] = []
        launch = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, *[WORD] * 7, POINTER, POINTER, POINTER)(self._launch)
        self.library = SimpleNamespace(
            cuInit=lambda flags: 0,
            cuDevicePrimaryCtxRetain=lambda context, device: give(context, PRIMARY + device),
            cuCtxGetCurrent=lambda context: give(context, self.current),
            cuCtxSetCurrent=self._set_context,
            cuModuleLoadData=lambda module, cubin: 0,
            cuModuleGetFunction=lambda function, module, name: give(function, FUNCTION),
            cuFuncSetCacheConfig=lambda function, config: 0,
            cuFuncSetAttribute=self._set_attribute,
            cuGetErrorString=lambda status, text: 0,
            cuLaunchKernel=launch,
        )

    def _set_context(self, context: Any) -> int:
        self.current = context.value or 0
        return 0

    def _set_attribute(self, function: Any, attribute: int, value: int) -> int:
        self.attributes.append((attribute, value))
        return 0

    def _launch(self, function: int, *rest: Any) -> int:
        *numbers, stream, parameters, _ = rest
        pointers = ctypes.cast(parameters, ctypes.POINTER(POINTER))
        values = [ctypes.string_at(pointers[i], size) for i, size in enumerate(self.parameter_bytes)]
        self.launches.append(
            SimpleNamespace(function=function, numbers=numbers, stream=stream, values=values, context=self.current)
        )
        return self.statuses.pop(0) if self.statuses else 0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: STREAM, raising=False)
    real: Callable[..., torch.Tensor] = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, device=None, **options: real(*sizes, **options))
    return FakeCuda()


@pytest.fixture(scope="module")
def matmul() -> Binary:
    return compile_kernel(kernels.matmul("bf16"), 90)


@pytest.fixture(scope="module")
def gather() -> Binary:
    return compile_kernel(kernels.gather(), 90)


@pytest.fixture(scope="module")
def descriptors() -> Binary:
    return compile_kernel(kernels.descriptor_matmul(), 90)


def test_arguments_stream_and_grid_reach_the_driver(cuda: FakeCuda, matmul: Binary) -> None:
    launch = CudaLauncher(matmul, 0, CudaDriver(cuda.library))
    cuda.parameter_bytes = [8, 8, 8, 4, 4, 4]
    a, b = torch.empty(4), torch.empty(4)
    launch((3, 2), [a, b, 0x7FFF_0000_0010, 5, -6, 7])
    (call,) = cuda.launches
    assert call.function == FUNCTION and call.stream == STREAM
    assert call.numbers == [3, 2, 1, 32 * matmul.num_warps, 1, 1, matmul.shared_bytes]
    addresses = [struct.unpack("<Q", value)[0] for value in call.values[:3]]
    assert addresses == [a.data_ptr(), b.data_ptr(), 0x7FFF_0000_0010]
    assert [struct.unpack("<i", value)[0] for value in call.values[3:]] == [5, -6, 7]


def test_a_wide_size_keeps_its_64_bits(cuda: FakeCuda, gather: Binary) -> None:
    launch = CudaLauncher(gather, 0, CudaDriver(cuda.library))
    cuda.parameter_bytes = [8, 8, 8, 8]
    launch((1,), [1, 2, 3, 2**40])
    assert struct.unpack("<q", cuda.launches[0].values[3])[0] == 2**40


def test_an_empty_grid_is_not_launched(cuda: FakeCuda, gather: Binary) -> None:
    CudaLauncher(gather, 0, CudaDriver(cuda.library))((0,), [1, 2, 3, 4])
    assert cuda.launches == []


def test_descriptors_get_scratch_memory_for_every_program(cuda: FakeCuda, descriptors: Binary) -> None:
    launch = CudaLauncher(descriptors, 0, CudaDriver(cuda.library))
    cuda.parameter_bytes = [8, 8, 8, 4, 4, 4, 8]
    for grid in ((2, 2), (2, 1), (8, 8)):
        launch(grid, [16, 32, 48, 1, 2, 3])
    scratch = [struct.unpack("<Q", call.values[6])[0] for call in cuda.launches]
    assert scratch[0] and scratch[0] == scratch[1] != scratch[2]


def test_much_shared_memory_is_asked_for(cuda: FakeCuda, matmul: Binary, descriptors: Binary) -> None:
    CudaLauncher(matmul, 0, CudaDriver(cuda.library))
    assert cuda.attributes == []
    CudaLauncher(descriptors, 0, CudaDriver(cuda.library))
    assert cuda.attributes == [(8, descriptors.shared_bytes)]


@pytest.mark.parametrize("another", [0, PRIMARY])
def test_a_launch_enters_its_devices_context(cuda: FakeCuda, gather: Binary, another: int) -> None:
    launch = CudaLauncher(gather, 1, CudaDriver(cuda.library))
    cuda.current = another
    cuda.statuses = [201]
    launch((1,), [1, 2, 3, 4])
    assert [call.context for call in cuda.launches] == [another, PRIMARY + 1]
    # A thread that had no context keeps this one; torch's current device stays what it was.
    assert cuda.current == (another or PRIMARY + 1)


def test_a_refused_launch_raises(cuda: FakeCuda, gather: Binary) -> None:
    launch = CudaLauncher(gather, 0, CudaDriver(cuda.library))
    cuda.statuses = [719]
    with pytest.raises(CudaError, match=r"cuLaunchKernel failed: .*\(719\)"):
        launch((1,), [1, 2, 3, 4])
