"""What a CUDA launch hands to the driver, against a driver of our own: Python functions behind C pointers."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rooftile.runtime.binary import Binary
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.cuda_driver import CudaDriver, CudaError
from rooftile.runtime.descriptors import launch_arguments
from rooftile.runtime.launch import CudaLauncher
from rooftile.runtime.slots import AddressSlots
from tests.runtime import kernels

FUNCTION, STREAM, PRIMARY = 0x7F00_0000_1234, 0x7F00_0000_5678, 0x7F00_0000_9000
POINTER = ctypes.c_void_p


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
        self.allocated: list[torch.Tensor] = []
        self.encoded: list[SimpleNamespace] = []
        self.copied: list[tuple[int, ...]] = []
        launch = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER, POINTER, POINTER)(self._launch)
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
            cuLaunchKernelEx=launch,
            cuTensorMapEncodeTiled=self._encode,
            cuMemcpyDtoDAsync_v2=self._copy,
        )

    def _set_context(self, context: Any) -> int:
        self.current = context.value or 0
        return 0

    def _set_attribute(self, function: Any, attribute: int, value: int) -> int:
        self.attributes.append((attribute, value))
        return 0

    def _encode(self, place: Any, element: int, rank: int, address: Any, *given: Any) -> int:
        *arrays, interleave, swizzle, promotion, outside = given
        assert (interleave, promotion, outside) == (0, 2, 0)
        assert not place.value % 64
        extents, steps, box, each = (tuple(array) for array in arrays)
        assert each == (1,) * rank
        self.encoded.append(
            SimpleNamespace(
                element=element, address=address.value, extents=extents, steps=steps, box=box, swizzle=swizzle
            )
        )
        number = struct.pack("<Q", len(self.encoded))
        ctypes.memmove(place, number.ljust(128, b"\0"), 128)
        return 0

    def _copy(self, *given: Any) -> int:
        self.copied.append(tuple(each.value for each in given))
        return 0

    def _launch(self, config: int, function: int, parameters: int, _: Any) -> int:
        # CUlaunchConfig of cuda.h: seven unsigned ints, then, aligned, the stream, the attributes and their number.
        *numbers, stream, attributes, count = struct.unpack("@7I4xQQI", ctypes.string_at(config, 52))
        asked = [struct.unpack_from("@i4xi", ctypes.string_at(attributes + 72 * n, 72)) for n in range(count)]
        pointers = ctypes.cast(parameters, ctypes.POINTER(POINTER))
        values = [ctypes.string_at(pointers[i], size) for i, size in enumerate(self.parameter_bytes)]
        self.launches.append(
            SimpleNamespace(
                function=function, numbers=numbers, stream=stream, values=values, context=self.current, asked=asked
            )
        )
        return self.statuses.pop(0) if self.statuses else 0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: STREAM, raising=False)
    fake, real = FakeCuda(), torch.empty

    def empty(*sizes: int, device: object = None, **options: Any) -> torch.Tensor:
        fake.allocated.append(real(*sizes, **options))
        return fake.allocated[-1]

    monkeypatch.setattr(torch, "empty", empty)
    return fake


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


def test_a_kernel_that_waits_by_itself_is_launched_early(cuda: FakeCuda, gather: Binary) -> None:
    cuda.parameter_bytes = [8, 8, 8, 8]
    for binary in (gather, replace(gather, waits=True)):
        CudaLauncher(binary, 0, CudaDriver(cuda.library))((1,), [1, 2, 3, 4])
    assert [call.asked for call in cuda.launches] == [[], [(6, 1)]]  # programmatic stream serialization, allowed


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
    for grid in ((2, 2), (8, 8)):
        launch(grid, [16, 32, 48, 1, 2, 3])
    assert [memory.numel() for memory in cuda.allocated] == [
        4 * descriptors.scratch_bytes,
        64 * descriptors.scratch_bytes,
    ]
    scratch = [struct.unpack("<Q", call.values[6])[0] for call in cuda.launches]
    assert scratch == [memory.data_ptr() for memory in cuda.allocated]


def test_a_descriptor_is_made_for_the_address_of_its_buffer(cuda: FakeCuda) -> None:
    kernel = kernels.given_descriptor()
    binary = compile_kernel(kernel, 90)
    assert binary.parameters == ("ptr", "ptr", "descriptor", *["i32"] * 3, *["i64"] * 3)
    slots = AddressSlots(2)
    (argument,) = launch_arguments(kernel, [], {"n": 5})
    launch = CudaLauncher(binary, 0, CudaDriver(cuda.library)).bind((1,), slots, (0, 1, argument), None)
    cuda.parameter_bytes = [8, 8, 128, 4, 4, 4, 8, 8, 8]
    for address in (0x1000, 0x1000, 0x2000):
        slots.put(0, address)
        slots.put(1, 0x9000)
        launch()
    made = cuda.encoded[0]
    assert [each.address for each in cuda.encoded] == [0x1000 + 16, 0x2000 + 16]
    assert (made.element, made.extents, made.steps) == (9, (64, 100, 5), (256, 25600))
    assert made.box == tuple(reversed(binary.descriptors[0].box)) and made.swizzle == binary.descriptors[0].swizzle
    passed = [call.values[2][:8] for call in cuda.launches]
    assert passed == [struct.pack("<Q", n) for n in (1, 1, 2)]
    sizes = [int.from_bytes(value, "little") for value in cuda.launches[0].values[3:]]
    assert sizes == [5, 100, 64, 12800, 128, 1]


def test_a_descriptor_leads_from_one_buffer_to_another(cuda: FakeCuda) -> None:
    kernel = kernels.two_as_one()
    slots = AddressSlots(4)
    (argument,) = launch_arguments(kernel, [], {})
    launcher = CudaLauncher(compile_kernel(kernel, 90), 0, CudaDriver(cuda.library))
    launch = launcher.bind((1,), slots, (0, 1, 2, 3, argument), None)
    for first, second in ((0x4000, 0x9010), (0x4000, 0x9010), (0x9010, 0x4000), (0x4000, 0x8000), (0x4000, 0x4000)):
        slots.put(0, first)
        slots.put(1, second)
        launch()
    assert [each.address for each in cuda.encoded] == [0x4000 + 16] * 4
    assert [each.steps for each in cuda.encoded] == [(128, 0x5010), (128, 0x5010), (128, 0x4000), (128, 0)]
    assert {each.extents for each in cuda.encoded} == {(64, 100, 2)} and cuda.copied == []


@pytest.mark.parametrize("second", [0x4000 + 2**40, 0x4008])
def test_buffers_that_no_descriptor_reaches_are_copied_in_each_launch(cuda: FakeCuda, second: int) -> None:
    kernel = kernels.two_as_one()
    slots = AddressSlots(4)
    (argument,) = launch_arguments(kernel, [], {})
    launcher = CudaLauncher(compile_kernel(kernel, 90), 0, CudaDriver(cuda.library))
    launch = launcher.bind((1,), slots, (0, 1, 2, 3, argument), None)
    slots.run_on(STREAM)
    for first, other in ((0x4000, second), (second, 0x4000)):
        slots.put(0, first)
        slots.put(1, other)
        launch()
    (memory,) = cuda.allocated
    each, count, start = memory.numel() // 2, 2 * 100 * 64, memory.data_ptr()
    expected = [(start + 16, 0x4000 + 16), (start + each + 16, second + 16)]
    expected += [(start + each + 16, second + 16), (start + 16, 0x4000 + 16)]
    assert cuda.copied == [(to, source, count, STREAM) for to, source in expected]
    assert each >= 16 + count and not each % 16
    assert {each.address for each in cuda.encoded} == {start + 16}
    assert {made.steps for made in cuda.encoded} == {(128, each)}


def test_much_shared_memory_is_asked_for(cuda: FakeCuda, matmul: Binary, descriptors: Binary) -> None:
    CudaLauncher(matmul, 0, CudaDriver(cuda.library))
    assert cuda.attributes == []
    CudaLauncher(descriptors, 0, CudaDriver(cuda.library))
    assert cuda.attributes == [(8, descriptors.shared_bytes)]


def test_a_bound_launch_reads_what_its_slots_hold_then(cuda: FakeCuda, gather: Binary) -> None:
    slots = AddressSlots(5)
    launch = CudaLauncher(gather, 0, CudaDriver(cuda.library)).bind((2,), slots, (3, 0, 1, 4), None)
    cuda.parameter_bytes = [8, 8, 8, 8]
    for first, stream in ((0x10, 1), (0x20, 2)):
        for place in range(5):
            slots.put(place, first + place)
        slots.run_on(stream)
        launch()
    found = [([struct.unpack("<Q", v)[0] for v in call.values], call.stream) for call in cuda.launches]
    assert found == [([0x13, 0x10, 0x11, 0x14], 1), ([0x23, 0x20, 0x21, 0x24], 2)]


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
    with pytest.raises(CudaError, match=r"cuLaunchKernelEx failed: .*\(719\)"):
        launch((1,), [1, 2, 3, 4])
