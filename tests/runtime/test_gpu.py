"""Compiled kernels on a GPU against the CPU's evaluation of the same text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.cache import KernelCache
from rooftile.runtime.descriptors import launch_arguments
from rooftile.runtime.devices import default_target
from rooftile.runtime.launch import CpuLauncher, CudaLauncher
from tests.runtime import kernels
from tests.runtime.language_cases import CASES, arguments

pytestmark = pytest.mark.gpu


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path)


def built(kernel: Kernel, cache: KernelCache) -> CudaLauncher:
    return CudaLauncher(cache.get_or_build(kernel, default_target()), torch.cuda.current_device())


@pytest.mark.parametrize("name", CASES)
def test_the_language_is_the_same_on_a_gpu(name: str, cache: KernelCache) -> None:
    here = arguments()
    there = [tensor.cuda() for tensor in here]
    CpuLauncher(CASES[name])((1,), here)
    built(CASES[name], cache)((1,), there)
    close = 2e-3 if name.startswith("fp16") else 1e-4  # a GPU multiplies and adds fp16 with one rounding, we with two
    torch.testing.assert_close(there[2].cpu(), here[2], rtol=close, atol=close, equal_nan=True)
    assert torch.equal(there[3].cpu(), here[3])


def matmul_arguments(dtype: torch.dtype, m: int, n: int, k: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    a, b = torch.randn(m, k, device="cuda").to(dtype), torch.randn(k, n, device="cuda").to(dtype)
    return [a, b, torch.empty(m, n, device="cuda", dtype=dtype)]


def check(tensors: list[torch.Tensor]) -> None:
    a, b, c = tensors
    torch.testing.assert_close(c.double(), a.double() @ b.double(), rtol=2e-2, atol=2e-2)


@pytest.fixture
def descriptors(cache: KernelCache) -> CudaLauncher:
    return built(kernels.descriptor_matmul(), cache)


@pytest.mark.parametrize(("name", "dtype"), [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_matmul(name: str, dtype: torch.dtype, cache: KernelCache) -> None:
    tensors = matmul_arguments(dtype, 100, 72, 150)
    built(kernels.matmul(name), cache)((2, 2), [*tensors, 100, 72, 150])
    check(tensors)


def test_descriptors_with_warp_specialization(descriptors: CudaLauncher) -> None:
    tensors = matmul_arguments(torch.bfloat16, 512, 256, 1024)
    descriptors((8, 4), [*tensors, 512, 256, 1024])
    check(tensors)


def test_a_descriptor_that_the_host_makes(cache: KernelCache) -> None:
    kernel = kernels.given_descriptor()
    x = torch.randn(8 + 5 * 12800, device="cuda").bfloat16()
    y = torch.empty(32, 64, device="cuda", dtype=torch.bfloat16)
    built(kernel, cache)((1,), launch_arguments(kernel, [x, y], {"n": 5}))
    assert torch.equal(y, x[8:].view(5, 100, 128)[1, 32:64, :64])


@pytest.mark.parametrize("order", ["as they are", "swapped", "one", "far apart"])
@pytest.mark.parametrize("gap", [0, 8, 1000])
def test_a_descriptor_of_two_buffers(cache: KernelCache, gap: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hardware can't reach from one to the other, both are copied, in each launch again."""
    kernel, count = kernels.two_as_one(), 8 + 100 * 64
    memory = torch.randn(2 * count + gap, device="cuda").bfloat16()
    lower, upper = memory[:count], memory[count + gap :]
    first, second = {"swapped": (upper, lower), "one": (lower, lower)}.get(order, (lower, upper))
    monkeypatch.setattr("rooftile.runtime.pairs.MOST_APART", 1 if order == "far apart" else 2**40)
    launch = built(kernel, cache)
    y, z = torch.empty(64, 64, device="cuda", dtype=torch.bfloat16), torch.empty(1, device="cuda", dtype=torch.int32)
    for _ in range(2):
        memory.neg_()
        launch((1,), launch_arguments(kernel, [first, second, y, z], {}))
        found = (lower, lower if order == "one" else upper)
        assert torch.equal(y.view(2, 32, 64), torch.stack([each[8:].view(100, 64)[32:64] for each in found]))
        assert z.item() == (order not in ("swapped", "one"))


def test_addresses_are_taken_as_tensors_are(descriptors: CudaLauncher) -> None:
    tensors = matmul_arguments(torch.bfloat16, 128, 128, 128)
    descriptors((2, 2), [*(tensor.data_ptr() for tensor in tensors), 128, 128, 128])
    check(tensors)


def test_other_threads_and_streams(descriptors: CudaLauncher) -> None:
    def run(_: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            tensors = matmul_arguments(torch.bfloat16, 256, 256, 256)
            for _ in range(20):
                descriptors((4, 4), [*tensors, 256, 256, 256])
            torch.cuda.current_stream().synchronize()
            check(tensors)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))


def test_in_a_cuda_graph(descriptors: CudaLauncher) -> None:
    tensors = matmul_arguments(torch.bfloat16, 256, 256, 256)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        descriptors((4, 4), [*tensors, 256, 256, 256])
    tensors[2].zero_()
    graph.replay()
    torch.cuda.synchronize()
    check(tensors)
