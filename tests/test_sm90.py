"""The kernels that are chosen for an H100, compiled for sm_90 without a GPU: no spills, within its shared memory.

The models are on the meta device: what is looked at is their graph, no weight is ever allocated.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from rooftile.codegen.kernel import Kernel
from rooftile.codegen.together import emit_all
from rooftile.driver import fp32_precision
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import pipeline
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.cache_key import cache_key
from rooftile.runtime.resources import Resources
from rooftile.target import H100
from rooftile.textbook import ON_GPU, Block
from tests.models import BLOCKS, Built
from tests.strategies import graphs

LLAMA_8B = {"length": 2048, "width": 4096, "heads": 32, "kv_heads": 8, "inner": 14336, "batch": 1}
GPT2_XL = {"length": 1024, "width": 1600, "heads": 25, "batch": 4}


@dataclass(frozen=True)
class Case:
    """A model of ``BLOCKS``, its sizes, and the most kernels that it may become."""

    block: str
    sizes: tuple[tuple[str, int], ...]
    dtype: torch.dtype
    kernels: int

    def __str__(self) -> str:
        sizes = "x".join(str(n) for _, n in self.sizes)
        return "-".join(part for part in (self.block, sizes, str(self.dtype).removeprefix("torch.")) if part)


def case(block: str, dtype: torch.dtype, kernels: int, **sizes: int) -> Case:
    return Case(block, tuple(sizes.items()), dtype, kernels)


def demo(dtype: torch.dtype, device: str) -> Built:
    """What ``rooftile demo`` compiles, at a GPU's sizes."""
    block = Block(ON_GPU).to(device, dtype).eval()
    return block, (torch.empty(ON_GPU.batch, ON_GPU.length, ON_GPU.width, dtype=dtype, device=device),)


BUILDERS = {**BLOCKS, "demo": demo}
CASES = [
    case("llama", torch.bfloat16, 12, **LLAMA_8B),
    case("demo", torch.bfloat16, 12),
    case("gpt2", torch.bfloat16, 10, **GPT2_XL),
    case("llama", torch.float16, 12, batch=3, length=129, width=96),
    case("gpt2", torch.float32, 10, batch=1, length=129, width=320),
    case("vit", torch.float16, 13, batch=1, width=96),
]


@cache
def lowered(case: Case) -> Graph:
    """The case's kernels for an H100."""
    with torch.device("meta"), torch.no_grad():
        module, inputs = BUILDERS[case.block](dtype=case.dtype, device="meta", **dict(case.sizes))
        exported = torch.export.export(module, inputs, strict=False)
    imported = import_captured(capture_exported(exported)).graph
    return Manager(verify=True).run(imported, pipeline(fp32_precision(H100)), PassContext(H100))[-1].graph


@pytest.mark.parametrize("case", CASES, ids=str)
def test_number_of_kernels(case: Case) -> None:
    graph = lowered(case)
    assert all(op.name == "region" for op in graph.ops)
    assert len(graph.ops) <= case.kernels


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_fit_an_h100(case: Case) -> None:
    kernels = list({cache_key(k, H100.arch): k for k in emit_all(launches(lowered(case)), H100).values()}.values())
    with ThreadPoolExecutor(2) as pool:
        resources = list(zip(kernels, pool.map(_resources, kernels), strict=True))
    assert {k.name: r for k, r in resources if r.spill_bytes > _stack(k)} == {}
    assert {k.name: r for k, r in resources if r.shared_bytes > H100.shared_memory} == {}


@given(graphs())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_kernels_of_random_graphs_compile(graph: Graph) -> None:
    """Triton's compiler refuses what its interpreter and ours accept."""
    lowered = Manager().run(graph, pipeline(fp32_precision(H100)), PassContext(H100))[-1].graph
    kernels = emit_all(launches(lowered), H100)
    assert all(_resources(k).shared_bytes <= H100.shared_memory for k in kernels.values())


def _resources(kernel: Kernel) -> Resources:
    return compile_kernel(kernel, H100.arch).resources


def _stack(kernel: Kernel) -> int:
    """Bytes of stack that are no spills: sine and cosine reduce very large arguments there."""
    return 48 if "tl.sin(" in kernel.source or "tl.cos(" in kernel.source else 0
