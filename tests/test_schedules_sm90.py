"""Schedules of products and attention, chosen ones and others, compiled for sm_90: what was asked for is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from rooftile.codegen.emit import emit
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Op
from rooftile.ir.schedule import OPTIONS, Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.schedules.estimate import programs
from rooftile.passes.schedules.override import rescheduled, with_tiles
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100


class Attention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return torch.softmax(scores.float(), -1).to(q.dtype) @ v


class BiasedAttention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
        return torch.softmax(scores.float(), -1).to(q.dtype) @ v


class Product(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x @ w.T


class SwiGLU(nn.Module):
    def forward(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(x @ gate.T) * (x @ up.T)


class GEGLU(nn.Module):
    def forward(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return r + nn.functional.gelu(x @ gate.T, approximate="tanh") * (x @ up.T)


class Chunked(nn.Module):
    def forward(self, x: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
        gate, up = (x @ both.T).chunk(2, -1)
        return nn.functional.silu(gate) * up


class Rotated(nn.Module):
    """Rotary positions: either half of a head needs the other."""

    def forward(self, x: torch.Tensor, w: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        heads = (x @ w.T).view(len(x), -1, 128).transpose(0, 1)
        lower, upper = heads.chunk(2, -1)
        return heads * cos + torch.cat([-upper, lower], -1) * sin


class Activated(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return r + nn.functional.gelu(nn.functional.linear(x, w, bias))


class Exponential(nn.Module):
    """What follows the product takes as many registers as any function of torch's."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return nn.functional.elu(x @ w.T)


class Router(nn.Module):
    """Logits that are wanted in fp32, of what is stored in bf16."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x.float(), w.float())


class Embedded(nn.Module):
    """The first layer's residual: a row of the table of embeddings, at an index that is data."""

    def forward(self, x: torch.Tensor, w: torch.Tensor, table: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return table[row[:, 0].to(torch.int64).abs()] + x @ w.T


SQUARE = (4096, 4096)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "attention": (Attention, ((1, 8, 2048, 128),) * 3),  # few programs, so that each has one tile of rows
    "much-attention": (Attention, ((4, 16, 4096, 128),) * 3),
    "biased-attention": (BiasedAttention, (*((4, 16, 4096, 128),) * 3, (4096, 4096))),
    "narrow-attention": (Attention, ((4, 16, 4096, 64),) * 3),
    "matmul": (Product, ((4096, 4096), (4096, 4096))),
    "activated": (Activated, (SQUARE, SQUARE, (4096,), SQUARE)),
    "exponential": (Exponential, (SQUARE, SQUARE)),
    "ragged": (Activated, ((4096, 1600), (1600, 1600), (1600,), (4096, 1600))),
    "geglu": (GEGLU, (SQUARE,) * 4),
    "embedded": (Embedded, ((2048, 2048), (2048, 2048), (128256, 2048), (2048, 1))),
    "chunked": (Chunked, ((8192, 4096), (28672, 4096))),
    "router": (Router, ((8192, 2048), (64, 2048))),
    "rotated": (Rotated, (SQUARE, SQUARE, (4096, 128), (4096, 128))),
    "swiglu": (SwiGLU, ((8192, 4096), (14336, 4096), (14336, 4096))),
    "long": (Product, ((4096, 18944), (3584, 18944))),
    "long-activated": (Activated, ((4096, 18944), (3584, 18944), (3584,), (4096, 3584))),
    "long-chunked": (Chunked, ((2048, 4096), (22016, 4096))),
}


@cache
def region(name: str) -> Op:
    """The one region that the model becomes, with the schedule that was chosen."""
    model, shapes = MODELS[name]
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in shapes)
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(model(), inputs))).graph
    stages = Manager().run(graph, PIPELINE, PassContext(H100))
    (op,) = (op for op in stages[-1].graph.ops if op.name == "region")
    return op


@dataclass(frozen=True)
class Forced:
    """Tiles of the grid axes that have any and of the loop, and the schedule's other fields."""

    model: str
    grid: tuple[int, ...]
    loop: int
    fields: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        tiles = "x".join(map(str, (*self.grid, self.loop)))
        return "-".join([self.model, tiles, *(f"{name}_{value}" for name, value in self.fields)])

    def compiled(self) -> Binary:
        """The kernel, compiled."""
        op = region(self.model)
        chosen = Schedule.from_attrs(op.attrs)
        tiled = [a.name for a in chosen.axes if a.role == "grid" and a.tile > 1]
        (loop,) = (a.name for a in chosen.axes if a.role == "loop")
        tiles = dict(zip(tiled, self.grid, strict=True)) | {loop: self.loop}
        schedule = replace(with_tiles(chosen, **tiles), **{**OPTIONS, "descriptors": True, **dict(self.fields)})
        lowered = Lower().lower(rescheduled(op, schedule))
        return compile_kernel(emit(lowered.regions[1], H100, lowered.regions[0]), H100.arch)


def forced(model: str, *tiles: int, **fields: Any) -> Forced:
    return Forced(model, tiles[:-1], tiles[-1], tuple(fields.items()))


ONE_REGISTER_PAIR = 8  # bytes: what the fastest tiles of a sweep with a dense bias may put away in each step
PLAIN = (
    forced("attention", 128, 64, num_warps=8, num_stages=3),
    forced("attention", 128, 128, num_warps=8, num_stages=3),
    forced("matmul", 128, 256, 64, num_warps=8, num_stages=3, persistent=True, flatten=True),
    forced("matmul", 128, 256, 64, num_warps=8, num_stages=4, persistent=True, flatten=True, epilogue=2),
    forced("swiglu", 128, 128, 64, num_warps=8, num_stages=3, persistent=True),
)
SPECIALIZED = (
    forced("attention", 128, 128, num_warps=4, num_stages=2, specialize=True),
    forced("attention", 128, 64, num_warps=4, num_stages=2, specialize=True),
    forced("matmul", 128, 128, 64, num_warps=4, num_stages=3, specialize=True),
)


def _check(binary: Binary, spilled: int = 0) -> None:
    assert "ttng.async_tma_copy_global_to_local" in binary.ttgir
    assert "tt.load" not in binary.ttgir and "ttg.async_copy_global_to_local" not in binary.ttgir
    assert "ttng.warp_group_dot" in binary.ttgir
    assert binary.resources.spill_bytes <= spilled
    assert binary.shared_bytes <= H100.shared_memory


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_tiles_go_through_descriptors(case: Forced) -> None:
    binary = case.compiled()
    _check(binary)
    assert binary.descriptors and not binary.scratch_bytes  # the host makes them
    assert not binary.warp_specialized


@pytest.mark.parametrize("case", SPECIALIZED, ids=str)
def test_warps_are_specialized(case: Forced) -> None:
    binary = case.compiled()
    _check(binary)
    assert binary.scratch_bytes and not binary.descriptors  # programs make their own
    assert binary.warp_specialized


@pytest.mark.parametrize(
    "fields",
    [{"num_warps": 8}, {"num_warps": 4, "num_stages": 1}, {"num_warps": 4, "epilogue": 2}],
    ids=lambda fields: "-".join(map(str, fields)),
)
def test_specialization_that_triton_cannot_do_is_not_asked_for(fields: dict[str, Any]) -> None:
    assert not forced("matmul", 128, 128, 64, specialize=True, **fields).compiled().warp_specialized


@pytest.mark.parametrize("name", ["matmul", "activated", "exponential", "ragged", "geglu", "swiglu", "embedded"])
def test_chosen_products_read_blocks_and_fit(name: str) -> None:
    """Persistent, but where each program would have one tile."""
    op = region(name)
    schedule = Schedule.from_attrs(op.attrs)
    binary = compile_kernel(emit(op.regions[1], H100), H100.arch)
    assert schedule.descriptors and schedule.persistent == (programs(schedule) > H100.sm_count)
    assert "ttng.async_tma_copy_global_to_local" in binary.ttgir
    assert "ttg.async_copy_global_to_local" not in binary.ttgir
    assert binary.resources.spill_bytes == 0
    assert binary.shared_bytes <= H100.shared_memory


def test_products_of_widened_operands_run_on_matrix_units() -> None:
    """Their steps are added by fp32 arithmetic, since matrix units cut bits off."""
    binary = compile_kernel(emit(region("router").regions[1], H100), H100.arch)
    (dot,) = (line for line in binary.ttgir.splitlines() if "ttng.warp_group_dot " in line)
    assert "bf16" in dot and "maxNumImpreciseAcc" in dot
    waited = binary.ttgir[binary.ttgir.index(dot) :].splitlines()[1:4]
    assert any("arith.addf" in line for line in waited)
    assert binary.resources.spill_bytes == 0


@pytest.mark.parametrize("name", ["geglu", "swiglu", "chunked", "rotated"])
def test_two_products_of_one_operand_are_one(name: str) -> None:
    """A gate beside what it gates, or both halves of the heads that are rotated."""
    op = region(name)
    schedule, kernel = Schedule.from_attrs(op.attrs), emit(op.regions[1], H100)
    binary = compile_kernel(kernel, H100.arch)
    assert schedule.joined and schedule.flatten == (name != "rotated")
    assert kernel.source.count("tl.dot(") == 1 and binary.ttgir.count("ttng.warp_group_dot ") == 1
    assert "instrShape = [16, 256, 16]" in binary.ttgir and "ttg.convert_layout" not in binary.ttgir
    assert binary.resources.spill_bytes == 0
    assert binary.shared_bytes <= H100.shared_memory


@pytest.mark.parametrize("name", ["long", "long-activated", "long-chunked"])
def test_pieces_of_the_last_tiles_fit_beside_the_others(name: str) -> None:
    op = region(name)
    schedule, kernel = Schedule.from_attrs(op.attrs), emit(op.regions[1], H100)
    binary = compile_kernel(kernel, H100.arch)
    assert schedule.tail == 2 and kernel.source.count("tl.dot(") == 2
    assert "instrShape = [16, 256, 16]" in binary.ttgir and "instrShape = [16, 128, 16]" in binary.ttgir
    assert binary.resources.spill_bytes == 0
    assert binary.shared_bytes <= H100.shared_memory


@pytest.mark.parametrize("name", ["much-attention", "biased-attention", "narrow-attention"])
def test_chosen_sweeps_fit(name: str) -> None:
    op = region(name)
    schedule, binary = Schedule.from_attrs(op.attrs), compile_kernel(emit(op.regions[1], H100), H100.arch)
    _check(binary, ONE_REGISTER_PAIR if name == "biased-attention" else 0)
    assert schedule.role("ip").tile == 2 if name == "much-attention" else all(a.role != "parts" for a in schedule.axes)


def test_dots_of_one_tile_run_while_another_is_computed() -> None:
    op = region("much-attention")
    (loop,) = (o for o in op.regions[1].ops if o.name == "loop")
    names = [o.name for o in loop.regions[0].ops if o.name in ("dot", "reduce")]
    assert names == ["dot", "dot", *("reduce", "reduce", "dot") * 2]
