"""What the model says of single kernels, beside what they were measured to take on an H200."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.estimate import seconds
from rooftile.passes.schedules.override import with_tiles
from rooftile.target import H200


class Product(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x @ w.T


class Residual(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return residual + x @ w.T


class Counts(nn.Module):
    """How many elements lie at or below each of so many numbers."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[None, :] <= torch.arange(self.numbers, dtype=x.dtype, device=x.device)[:, None]).sum(1)


def regions(model: nn.Module, *inputs: torch.Tensor) -> list[Op]:
    graph = import_captured(capture_exported(torch.export.export(model, inputs))).graph
    return [op for op in Manager().run(graph, PIPELINE, PassContext(H200))[-1].graph.ops if op.name == "region"]


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(("m", "n", "microseconds"), [(128, 64, 208), (64, 64, 247)])
def test_products_of_fp32(m: int, n: int, microseconds: float) -> None:
    """As three products on tensor cores: 2048 cubed, in the fastest tiles and in others."""
    (op,) = regions(Product(), meta(2048, 2048), meta(2048, 2048))
    chosen = Schedule.from_attrs(op.attrs)
    schedule = with_tiles(chosen, m=m, n=n)
    assert [a.tile for a in chosen.axes if a.role == "grid"] == [128, 64]
    estimate = 1e6 * seconds(schedule, compose(op.regions[0], space_of(schedule)), H200)
    assert 0.8 * microseconds <= estimate <= 1.2 * microseconds


@pytest.mark.parametrize(
    ("m", "n", "k", "parts", "microseconds"), [(512, 1024, 1024, 4, 19.2), (8192, 64, 2048, 4, 34.0)]
)
def test_products_of_fp32_that_keep_few_warps_busy_run_in_parts(
    m: int, n: int, k: int, parts: int, microseconds: float
) -> None:
    """The first takes 29.9 us in one piece."""
    op = regions(Product(), meta(m, k), meta(n, k))[0]
    chosen = Schedule.from_attrs(op.attrs)
    assert chosen.axes[0].extent == parts
    estimate = 1e6 * seconds(chosen, compose(op.regions[0], space_of(chosen)), H200)
    assert 0.8 * microseconds <= estimate <= 1.2 * microseconds


@pytest.mark.parametrize(("dtype", "step"), [(torch.int8, 16384), (torch.int32, 8192)], ids=str)
def test_steps_of_a_long_sum_are_as_long_as_what_a_load_brings(dtype: torch.dtype, step: int) -> None:
    """64 counts of 65536 bytes: 10.0 us in steps of 8192, 7.1 in steps of 16384."""
    (op,) = regions(Counts(64), meta(65536, dtype=dtype))
    assert [a.tile for a in Schedule.from_attrs(op.attrs).axes if a.role == "loop"] == [step]


@pytest.mark.parametrize(("n", "k", "stages", "pieces"), [(4096, 4096, 3, 2), (3584, 18944, 4, 4)])
def test_an_epilogue_that_loads_what_it_adds_comes_in_few_pieces(n: int, k: int, stages: int, pieces: int) -> None:
    """4096 rows: 189 us, 193 in four stages and pieces; with a last wave in pieces 700, and 730 in three and two."""
    inputs = (
        meta(4096, k, dtype=torch.bfloat16),
        meta(n, k, dtype=torch.bfloat16),
        meta(4096, n, dtype=torch.bfloat16),
    )
    (op,) = regions(Residual(), *inputs)
    chosen = Schedule.from_attrs(op.attrs)
    assert (chosen.num_stages, chosen.epilogue) == (stages, pieces)
