"""Emitted kernels on a GPU, against plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.ir.dtypes import DType
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.descriptors import launch_arguments
from rooftile.runtime.launch import CudaLauncher
from rooftile.target import H100
from tests.codegen.cases import CASES, assert_close, buffers_for, build, expected, kernel_graph
from tests.codegen.options import OPTIONS, build_with
from tests.codegen.scalar_kernels import KERNELS, assert_agrees

pytestmark = pytest.mark.gpu


def _run(kernel: Kernel, buffers: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
    """The buffers after the kernel, on the CPU again; strides are kept on the way."""
    major, minor = torch.cuda.get_device_capability()
    launch = CudaLauncher(compile_kernel(kernel, 10 * major + minor), torch.cuda.current_device())
    there = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda").copy_(x) for x in buffers]
    launch(kernel.programs(sizes), launch_arguments(kernel, there, sizes))
    return [x.cpu() for x in there]


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    inputs, outputs = buffers_for(kernel_graph(name), case)
    results = _run(build(name, H100), [*inputs, *outputs], case.sizes)[len(inputs) :]
    for ours, exact in zip(results, expected(case, inputs), strict=True):
        assert_close(ours, exact, case.tolerance)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", CASES)
def test_options_agree_with_torch(name: str, options: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    inputs, outputs = buffers_for(kernel_graph(name), case)
    results = _run(build_with(name, options, H100), [*inputs, *outputs], case.sizes)[len(inputs) :]
    for ours, exact in zip(results, expected(case, inputs), strict=True):
        assert_close(ours, exact, case.tolerance)


@pytest.mark.parametrize(("make", "dtype"), KERNELS, ids=[f"{m.__name__}-{d}" for m, d in KERNELS])
def test_every_expression_agrees_with_torch(make: Callable[..., object], dtype: DType) -> None:
    graph, inputs, outputs = make(dtype)
    results = _run(emit(graph, H100), [*inputs, *(torch.empty_like(o.exact) for o in outputs)], {})[len(inputs) :]
    for ours, output in zip(results, outputs, strict=True):
        assert_agrees(ours, output)
