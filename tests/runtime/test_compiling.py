"""Compiling for sm_90 on a machine without a GPU, and what is read out of the binary."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rooftile.runtime.binary import Binary
from rooftile.runtime.build import CompileError, compile_kernel
from rooftile.runtime.resources import parameter_offsets, resources_of
from tests.runtime import kernels

ARCH = 90


@pytest.fixture(scope="module")
def binaries() -> dict[str, Binary]:
    return {name: compile_kernel(kernel, ARCH) for name, kernel in kernels.ALL.items()}


@pytest.mark.parametrize("name", kernels.ALL)
def test_resources_are_what_nvidias_tool_says(name: str, binaries: dict[str, Binary], tmp_path: Path) -> None:
    triton = pytest.importorskip("triton")
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton brings no cuobjdump")
    file = tmp_path / "kernel.cubin"
    file.write_bytes(binaries[name].cubin)
    said = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(found) for found in re.search(r"REG:(\d+) STACK:(\d+)", said).groups())  # type: ignore[union-attr]
    resources = binaries[name].resources
    assert (resources.registers, resources.spill_bytes) == (registers, stack)


def test_the_matmul_fits_a_program(binaries: dict[str, Binary]) -> None:
    resources = binaries["matmul_bf16"].resources
    assert 0 < resources.registers <= 255
    assert resources.spill_bytes == 0
    assert 0 < resources.shared_bytes <= 232_448


def test_too_large_an_accumulator_spills() -> None:
    small = kernels.matmul("bf16", warps=2)
    large = replace(small, source=small.source.replace("64", "128"))
    assert compile_kernel(large, ARCH).resources.spill_bytes > 1000


def test_warp_specialization_is_seen_and_changes_the_warps(binaries: dict[str, Binary]) -> None:
    assert binaries["descriptor_matmul"].warp_specialized
    assert binaries["descriptor_matmul"].num_warps > kernels.descriptor_matmul().num_warps
    assert not binaries["matmul_bf16"].warp_specialized


def test_descriptors_ask_for_scratch_memory(binaries: dict[str, Binary]) -> None:
    assert binaries["descriptor_matmul"].scratch_bytes >= 3 * 128
    assert binaries["matmul_bf16"].scratch_bytes == 0


def test_parameters_lie_where_c_would_put_them(binaries: dict[str, Binary]) -> None:
    # Three pointers, three int32, then what Triton adds: at least one pointer, all of them pointers.
    offsets = parameter_offsets(binaries["matmul_bf16"].cubin, "matmul")
    assert offsets[:7] == [0, 8, 16, 24, 28, 32, 40]
    assert all(offset % 8 == 0 for offset in offsets[6:])
    assert parameter_offsets(binaries["gather"].cubin, "gather")[:5] == [0, 8, 16, 24, 32]


@pytest.mark.parametrize("aligned", [True, False])
def test_alignment_decides_how_wide_loads_are(aligned: bool) -> None:
    kernel = kernels.vector_add()
    buffers = [kernels.buffer(p.name, p.dtype, aligned=aligned) for p in kernel.params[:3]]
    binary = compile_kernel(replace(kernel, params=(*buffers, kernels.size("n", aligned=True))), ARCH)
    assert ("sizePerThread = [2]" in binary.ttgir) == aligned


def test_compiling_leaves_tritons_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    compile_kernel(kernels.gather(), ARCH)
    assert not (tmp_path / "triton").exists()


def test_a_refused_kernel_says_why_and_where() -> None:
    kernel = kernels.vector_add()
    wrong = replace(kernel, source=kernel.source.replace("tl.arange(0, 256)", "tl.arange(0, 100)"))
    with pytest.raises(CompileError, match="kernel `vector_add` for sm_90") as error:
        compile_kernel(wrong, ARCH)
    assert "power of 2" in str(error.value)


def test_a_dot_too_small_for_the_hardware_is_refused() -> None:
    kernel = kernels.matmul("bf16")
    with pytest.raises(CompileError, match="K >= 16"):
        compile_kernel(replace(kernel, source=kernel.source.replace("32", "8").replace("float8", "float32")), ARCH)


def test_what_is_no_binary_is_refused() -> None:
    with pytest.raises(ValueError, match="not a 64-bit ELF file"):
        resources_of(b"not a cubin", 0)
