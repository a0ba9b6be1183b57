"""Products with few rows, compiled for sm_90: every weight is read once, in wide loads, with enough of them on their
way."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import triton
from torch import nn

from rooftile.codegen.emit import emit
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.packing import is_packed
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.schedules.estimate import programs
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.models import llama_layer
from tests.regions import regions

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
WEIGHTS = ((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (128256, 4096))
LLAMA_8B = {"width": 4096, "heads": 32, "kv_heads": 8, "inner": 14336}
ENOUGH = 32 * 1024  # bytes on their way to a multiprocessor


class Product(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, w)


@dataclass(frozen=True)
class Compiled:
    schedule: Schedule
    binary: Binary


@cache
def compiled(m: int, n: int, k: int) -> Compiled:
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((m, k), (n, k)))
    graph = import_captured(capture_exported(torch.export.export(Product(), inputs))).graph
    stages = Manager().run(graph, PIPELINE, PassContext(H100))
    (op,) = (op for op in stages[-1].graph.ops if op.name == "region")
    kernel = emit(op.regions[1], H100, op.regions[0])
    return Compiled(Schedule.from_attrs(op.attrs), compile_kernel(kernel, H100.arch))


def tile(schedule: Schedule, extent: int, role: str) -> int:
    return next((a.tile for a in schedule.axes if a.extent == extent and a.role == role), 1)


@pytest.mark.parametrize(("n", "k"), WEIGHTS)
@pytest.mark.parametrize("m", [1, 4, 16, 64])
def test_enough_weights_are_on_their_way(m: int, n: int, k: int) -> None:
    found = compiled(m, n, k)
    schedule, used = found.schedule, found.binary.resources
    assert used.spill_bytes == 0
    assert m == 1 or tile(schedule, m, "grid") >= m  # each weight is one program's
    step = tile(schedule, n, "grid") * tile(schedule, k, "loop") * 2
    ahead = step * (schedule.num_stages - 1 if m > 1 else 1)
    by_registers = 65536 // (used.registers * 32 * schedule.num_warps)
    by_memory = H100.shared_memory // max(1, used.shared_bytes)
    resident = min(programs(schedule) / H100.sm_count, by_registers, by_memory, 64 // schedule.num_warps)
    assert ahead * resident >= ENOUGH


@pytest.mark.skipif(not CUOBJDUMP.exists(), reason="this Triton brings no disassembler")
@pytest.mark.parametrize("m", [1, 4, 16, 64])
def test_weights_are_read_16_bytes_at_a_time(m: int, tmp_path: Path) -> None:
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled(m, 4096, 4096).binary.cubin)
    text = subprocess.run([CUOBJDUMP, "-sass", cubin], capture_output=True, text=True, check=True).stdout
    loads = set(re.findall(r"\b(?:LDG|LDGSTS)\.\S+", text))
    assert loads and all(".128" in load for load in loads)


@pytest.mark.parametrize(("m", "n"), [(16, 2048), (4, 2048), (16, 4096), (64, 2048)])
def test_no_warp_multiplies_what_another_one_does(m: int, n: int) -> None:
    """An instruction gives 16 by 8 results; warps that find none of their own would compute a neighbour's again."""
    found = compiled(m, n, 2048)
    (placed,) = re.findall(r"nvidia_mma<.*warpsPerCTA = \[(\d+), (\d+)\]", found.binary.ttgir)
    rows, columns = (int(warps) * piece for warps, piece in zip(placed, (16, 8), strict=True))
    assert rows <= max(16, tile(found.schedule, m, "grid")) and columns <= tile(found.schedule, n, "grid")


class Transposed(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x @ w


@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (1600, 6400)])
def test_a_vector_times_a_matrix_reads_what_is_contiguous(n: int, k: int) -> None:
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((1, k), (k, n)))
    graph = import_captured(capture_exported(torch.export.export(Transposed(), inputs))).graph
    stages = Manager().run(graph, PIPELINE, PassContext(H100))
    first, *rest = (op for op in stages[-1].graph.ops if op.name == "region")
    schedule = Schedule.from_attrs(first.attrs)
    assert tile(schedule, n, "grid") >= 32  # a row of the weights is n long: 64 bytes of it or more
    assert rest and programs(schedule) >= 4 * H100.sm_count  # by parts of the sum
    kernel = emit(first.regions[1], H100, first.regions[0])
    assert compile_kernel(kernel, H100.arch).resources.spill_bytes == 0


@pytest.mark.parametrize(("tokens", "most"), [(1, 5), (16, 7)])
def test_how_many_launches_a_llama_layer_takes(tokens: int, most: int) -> None:
    """Queries, keys and values; attention; its output; gate and up with SwiGLU; down. For several tokens, norms too."""
    with torch.device("meta"), torch.no_grad():
        module, inputs = llama_layer(batch=tokens, length=1, **LLAMA_8B, dtype=torch.bfloat16, device="meta")
        exported = torch.export.export(module, inputs, strict=False)
    graph = import_captured(capture_exported(exported)).graph
    lowered = Manager().run(graph, PIPELINE, PassContext(H100))[-1].graph
    regions = [op for op in launches(lowered).graph.ops if not is_packed(op)]
    assert len(regions) <= most
    (feed_forward,) = (op for op in regions if op.outputs[0].shape[-1] == LLAMA_8B["inner"])
    assert sum(op.name == "contract" for op in feed_forward.regions[0].ops) == 2


def normed_products(
    x: torch.Tensor, w: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A norm over all results of a product, which two others read."""
    y = (x @ w.T).float()
    y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)).bfloat16()
    return y @ a.T, y @ b.T


def test_a_norm_over_a_products_results_leaves_these_to_many_programs() -> None:
    """Not to one that holds them all, or computes them twice."""
    shapes = ((16, 2048), (2048, 2048), (1024, 2048), (512, 2048))
    ops = regions(normed_products, [torch.empty(s, dtype=torch.bfloat16, device="meta") for s in shapes], "h100")
    products = [op for op in ops if any(inner.name == "contract" for inner in op.regions[0].ops)]
    assert len(products) >= 3
    for op in products:
        schedule = Schedule.from_attrs(op.attrs)
        (loop,) = [a for a in schedule.axes if a.role == "loop"]
        assert loop.extent in (2048, 1024, 512, 256) and programs(schedule) > 16


def test_sums_of_few_rows_are_exchanged_between_no_warps() -> None:
    """Of 8 rows each, as chosen experts' results are added."""
    (op,) = regions(lambda x: x.sum(1), [torch.empty(8192, 8, 2048, dtype=torch.bfloat16, device="meta")], "h100")
    binary = compile_kernel(emit(op.regions[1], H100, op.regions[0]), H100.arch)
    assert binary.shared_bytes == 0 and binary.resources.spill_bytes == 0


def test_steps_of_one_query_are_loaded_ahead() -> None:
    """One row is no dot, for which Triton would load ahead by itself."""

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)

    shapes = ((16, 16, 1, 128), (16, 16, 2048, 128), (16, 16, 2048, 128))
    (op,) = regions(attention, tuple(torch.empty(s, dtype=torch.bfloat16, device="meta") for s in shapes), "h100")
    binary = compile_kernel(emit(op.regions[1], H100, op.regions[0]), H100.arch)
    assert binary.ttgir.count("ttg.async_copy_global_to_local") >= 4  # keys and values, before the loop and in it
    assert binary.resources.spill_bytes == 0 and 2 * binary.shared_bytes <= H100.shared_memory
