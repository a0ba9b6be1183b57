"""Whole kernels on the CPU, through the launcher that a plan uses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rooftile.runtime.descriptors import launch_arguments
from rooftile.runtime.interpreter.program import KernelError
from rooftile.runtime.launch import CpuLauncher
from tests.runtime import kernels

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_bf16_is_rounded_to_nearest_even() -> None:
    n = 1000
    a, b = torch.randn(n).bfloat16(), torch.randn(n).bfloat16()
    b[:4] = torch.tensor([float("inf"), float("nan"), float("-inf"), 0.0])
    c = torch.full((n,), 7.0).bfloat16()
    CpuLauncher(kernels.vector_add())((4,), [a, b, c, n])
    torch.testing.assert_close(c, (a.float() + b.float()).bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_with_a_bound_known_at_run_time(dtype: str) -> None:
    m, n, k = 100, 72, 150
    a, b = torch.randn(m, k).to(DTYPES[dtype]), torch.randn(k, n).to(DTYPES[dtype])
    c = torch.empty(m, n, dtype=DTYPES[dtype])
    CpuLauncher(kernels.matmul(dtype))((2, 2), [a, b, c, m, n, k])
    exact = a.double() @ b.double()
    # Only the order of the fp32 sums may differ, which moves a value to the neighbouring narrow one at most.
    step = {"f32": 2**-20, "f16": 2**-10, "bf16": 2**-7}[dtype]
    torch.testing.assert_close(c.double(), exact.to(DTYPES[dtype]).double(), rtol=step, atol=1e-4)


def test_row_softmax() -> None:
    x, y = torch.randn(5, 77), torch.empty(5, 77)
    CpuLauncher(kernels.row_softmax())((5,), [x, y, 77])
    torch.testing.assert_close(y, x.softmax(-1))


def test_gather_with_a_wide_size() -> None:
    table, index = torch.randn(20, 64), torch.randint(0, 20, (7,))
    out = torch.empty(7, 64)
    CpuLauncher(kernels.gather())((7,), [table, index, out, 64])
    assert torch.equal(out, table[index])


def test_descriptors_pad_on_load_and_cut_on_store() -> None:
    m, n, k = 100, 80, 96
    a, b = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
    around = torch.full((m + 1, n), -1.0).bfloat16()
    CpuLauncher(kernels.descriptor_matmul())((2, 2), [a, b, around[:m], m, n, k])
    torch.testing.assert_close(around[:m], (a.float() @ b.float()).bfloat16(), rtol=2**-7, atol=1e-3)
    assert torch.all(around[m] == -1)


def test_a_descriptor_that_the_host_makes() -> None:
    kernel = kernels.given_descriptor()
    x, y = torch.randn(8 + 5 * 12800).bfloat16(), torch.empty(32, 64, dtype=torch.bfloat16)
    CpuLauncher(kernel)((1,), launch_arguments(kernel, [x, y], {"n": 5}))
    assert torch.equal(y, x[8:].view(5, 100, 128)[1, 32:64, :64])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("gap", [0, 8, 1000])
def test_a_descriptor_of_two_buffers(gap: int, swapped: bool) -> None:
    kernel, count = kernels.two_as_one(), 8 + 100 * 64
    memory = torch.randn(2 * count + gap).bfloat16()
    lower, upper = memory[:count], memory[count + gap :]
    y, z = torch.empty(64, 64, dtype=torch.bfloat16), torch.empty(1, dtype=torch.int32)
    first, second = (upper, lower) if swapped else (lower, upper)
    CpuLauncher(kernel)((1,), launch_arguments(kernel, [first, second, y, z], {}))
    assert torch.equal(y.view(2, 32, 64), torch.stack([each[8:].view(100, 64)[32:64] for each in (lower, upper)]))
    assert z.item() == (not swapped)


def test_a_reduction_with_its_own_combine() -> None:
    x, value, index = torch.randn(64), torch.empty(1), torch.empty(1, dtype=torch.int32)
    launch = CpuLauncher(kernels.nan_max())
    launch((1,), [x, value, index])
    assert (value.item(), index.item()) == (x.max().item(), x.argmax().item())
    x[17] = float("nan")
    launch((1,), [x, value, index])
    assert value.isnan().item() and index.item() == 17


def test_an_empty_grid_runs_nothing() -> None:
    c = torch.ones(4).bfloat16()
    CpuLauncher(kernels.vector_add())((0,), [c, c, c, 4])
    assert torch.equal(c, torch.ones(4).bfloat16())


def test_an_access_outside_its_tensor_names_program_and_line() -> None:
    table, index = torch.randn(20, 64), torch.tensor([3, 20])
    with pytest.raises(KernelError, match=r"program \(1, 0, 0\).*element 1343 of `table`") as error:
        CpuLauncher(kernels.gather())((2,), [table, index, torch.empty(2, 64), 64])
    assert "tl.store(out + i * width + j, tl.load(table + row * width + j))" in str(error.value)
    assert "line 10 of the kernel" in str(error.value)


def test_a_view_is_bounded_by_its_own_elements() -> None:
    arena = torch.zeros(4096)
    with pytest.raises(KernelError, match="has 1280 elements"):
        CpuLauncher(kernels.gather())((1,), [arena[:1280].view(20, 64), torch.tensor([20]), torch.empty(1, 64), 64])


def test_threads_run_kernels_at_once() -> None:
    launch = CpuLauncher(kernels.matmul("f32"))
    a = [torch.randn(64, 64) for _ in range(8)]
    b = torch.randn(64, 128)
    out = [torch.empty(64, 128) for _ in a]

    def run(i: int) -> None:
        launch((1, 2), [a[i], b, out[i], 64, 128, 64])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))
    for left, result in zip(a, out, strict=True):
        torch.testing.assert_close(result, left @ b, rtol=1e-4, atol=1e-4)
