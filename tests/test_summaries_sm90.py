"""Attention under masks that are data, compiled for sm_90: no spills, and loads that run ahead as without a mask."""

from __future__ import annotations

import math
import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from benchmarks import naive
from rooftile.codegen.kernel import Kernel
from rooftile.codegen.together import emit_all
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100

LENGTH, HEADS, SIZE = 4096, 16, 128

# CUDA C++ Programming Guide, compute capability 9.0: bytes, of which each program takes some more, and registers.
SHARED_OF_A_MULTIPROCESSOR, RESERVED_SHARED, REGISTERS_OF_A_MULTIPROCESSOR = 228 * 1024, 1024, 65536


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Blocks(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        return naive.mixed(naive.scores(q, k).masked_fill(~seen, -math.inf), v)


CASES: dict[str, tuple[nn.Module, Tensor]] = {
    "documents": (naive.Documents(), empty(4, LENGTH, dtype=torch.int64)),
    "blocks": (Blocks(), empty(1, 1, LENGTH, LENGTH, dtype=torch.bool)),
}


@cache
def kernels(name: str) -> tuple[Kernel, ...]:
    """The kernels that are chosen for an H100, in order."""
    model, mask = CASES[name]
    inputs = (*(empty(4, HEADS, LENGTH, SIZE) for _ in range(3)), mask)
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(model, inputs))).graph
    lowered = Manager().run(graph, PIPELINE, PassContext(H100))[-1].graph
    return tuple(emit_all(launches(lowered), H100).values())


@cache
def compiled(name: str) -> tuple[Binary, ...]:
    return tuple(compile_kernel(kernel, H100.arch) for kernel in kernels(name))


@pytest.mark.parametrize("name", CASES)
def test_nothing_spills(name: str) -> None:
    assert [kernel.name for kernel in kernels(name)][-2:] == ["visits", "contract_max_sum"]
    for kernel, binary in zip(kernels(name), compiled(name), strict=True):
        assert binary.resources.spill_bytes == 0, kernel.name
        assert binary.shared_bytes <= H100.shared_memory, kernel.name


@pytest.mark.parametrize("name", CASES)
def test_descriptors_carry_keys_and_values_steps_ahead(name: str) -> None:
    """In both loops, bare and masked, though each step's place is read."""
    attention, binary = kernels(name)[-1], compiled(name)[-1]
    assert attention.source.count("tl.load(visits_ptr") == 5  # both ends, the first step, and the next in each loop
    assert all(f"{x}_block.load(" in attention.source for x in "qkv")
    buffers = re.findall(rf"local_alloc : \(\).*memdesc<(\d)x64x{SIZE}xbf16", binary.ttgir)
    masked = attention.num_stages - (name == "documents")  # where the documents of a step's keys wait as well
    assert [int(stages) for stages in buffers] == [attention.num_stages] * 2 + [masked] * 2


@pytest.mark.parametrize("name", CASES)
def test_two_programs_share_a_multiprocessor(name: str) -> None:
    binary = compiled(name)[-1]
    assert 2 * (binary.shared_bytes + RESERVED_SHARED) <= SHARED_OF_A_MULTIPROCESSOR
    assert 2 * 32 * binary.num_warps * binary.resources.registers <= REGISTERS_OF_A_MULTIPROCESSOR
