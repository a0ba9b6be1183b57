"""Emitted kernels compile for an H100 without one, within its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rooftile.codegen.emit import emit
from rooftile.ir.dtypes import DType
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.codegen.cases import CASES, COMPILED_ONLY, build
from tests.codegen.scalar_kernels import KERNELS


@pytest.mark.parametrize("name", [*CASES, *COMPILED_ONLY])
def test_fits_the_gpu_without_spills(name: str) -> None:
    resources = compile_kernel(build(name, H100), H100.arch).resources
    assert resources.spill_bytes == 0
    assert resources.shared_bytes <= H100.shared_memory


@pytest.mark.parametrize(("make", "dtype"), KERNELS, ids=[f"{m.__name__}-{d}" for m, d in KERNELS])
def test_every_expression_compiles(make: Callable[..., object], dtype: DType) -> None:
    graph, _, _ = make(dtype)
    assert compile_kernel(emit(graph, H100), H100.arch).cubin


@pytest.mark.parametrize("name", ["matmul", "softmax"])
def test_nothing_is_read_before_the_kernels_before_have_ended(name: str) -> None:
    ttgir = compile_kernel(build(name, H100), H100.arch).ttgir
    reads = [ttgir.find(op) for op in ("tt.load", "ttg.async_copy_global_to_local", "ttng.async_tma_copy")]
    assert 0 < ttgir.index("griddepcontrol.wait") < min(at for at in reads if at > 0)


def test_matmul_runs_on_the_matrix_units_in_a_pipeline() -> None:
    binary = compile_kernel(build("matmul", H100), H100.arch)
    assert "ttng.warp_group_dot" in binary.ttgir
    assert "ttg.async_copy_global_to_local" in binary.ttgir
