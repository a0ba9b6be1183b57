"""The order in which tiles of a sweep under a mask are taken: the longest first, of the heads that the cache holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from rooftile.codegen.emit import emit
from rooftile.codegen.together import emit_all
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.plans import Plans
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.program import Program
from rooftile.target import H100, Target
from tests.answers import assert_same_answer


class Masked(nn.Module):
    """Attention to the keys at a distance from ``least`` to ``most`` before a query."""

    def __init__(self, least: float, most: float) -> None:
        super().__init__()
        self.least, self.most = least, most

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        at = torch.arange(q.shape[-2], device=q.device)
        before = at[:, None] - at[None, :]
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if self.least > -math.inf:
            scores = scores.masked_fill(before < self.least, -math.inf)
        if self.most < math.inf:
            scores = scores.masked_fill(before > self.most, -math.inf)
        return scores.softmax(-1) @ v


CAUSAL, ANTICAUSAL, WINDOW, FULL = (0, math.inf), (-math.inf, 0), (-64, 64), (-math.inf, math.inf)


def imported(mask: tuple[float, float], *shape: int) -> Graph:
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for _ in range(3))
    return import_captured(capture_exported(torch.export.export(Masked(*mask), inputs))).graph


def lowered(graph: Graph, target: Target = H100) -> Graph:
    return Manager(verify=True).run(graph, PIPELINE, PassContext(target))[-1].graph


@pytest.mark.parametrize(("mask", "rises"), [(CAUSAL, True), (ANTICAUSAL, False), (WINDOW, False), (FULL, False)])
def test_tiles_are_taken_from_the_last_on_where_sweeps_grow(mask: tuple[float, float], rises: bool) -> None:
    (op,) = lowered(imported(mask, 1, 8, 2048, 64)).ops
    kernel = op.regions[1]
    assert bool(kernel.attrs.get("backwards")) == rises
    assert ("31 - (pid // 8)" in emit(kernel, H100).source) == rises
    assert print_graph(parse_graph(print_graph(kernel))) == print_graph(kernel)


@pytest.mark.parametrize(("length", "heads"), [(2048, 16), (8192, 4), (16384, 2)])
def test_as_many_heads_as_the_cache_holds_take_turns(length: int, heads: int) -> None:
    """Keys and values of 128 in bf16, in half of 50 MiB."""
    (op,) = lowered(imported(CAUSAL, 1, 32, length, 128)).ops
    (head, row), (grouped, count) = op.attrs["grid"], op.attrs["group"]
    assert (head, row) == ("h", op.regions[1].attrs["backwards"][0]) and (grouped, count) == ("h", heads)


def test_unmasked_sweeps_of_a_head_come_one_after_another() -> None:
    (op,) = lowered(imported(FULL, 1, 32, 2048, 64)).ops
    assert op.attrs["grid"][1] == "h" and op.attrs["group"] is None


@pytest.mark.parametrize("heads", [3, 8])
def test_each_tile_is_taken_once(heads: int) -> None:
    """Groups of heads that do not come out even, and one whose group is larger than what there is."""
    graph = imported(CAUSAL, 2, heads, 256, 32)
    result = lowered(graph, replace(H100, l2_bytes=4 * 2 * 256 * 32 * 2))
    assert dict([result.ops[0].attrs["group"]]) == {"h": 2}
    shared = launches(result)
    plan = Plans.of(shared.graph, emit_all(shared, H100)).every
    program = Program(plan, [CpuLauncher(step.kernel) for step in plan.launches], torch.device("cpu"))
    tensors = [torch.randn(2, heads, 256, 32).bfloat16() for _ in range(3)]
    assert_same_answer(graph, result, tensors)
    (ours,), (exact,) = program(tensors, {}), [Masked(*CAUSAL)(*(x.double() for x in tensors))]
    assert (ours.double() - exact).norm() < 4e-3 * exact.norm()


@pytest.mark.parametrize(("mask", "step"), [(CAUSAL, 128), (FULL, 128), ((0, 127), 64)])
def test_steps_are_short_where_a_window_leaves_out_much_of_long_ones(mask: tuple[float, float], step: int) -> None:
    (op,) = lowered(imported(mask, 1, 64, 2048, 64)).ops
    assert [a.tile for a in Schedule.from_attrs(op.attrs).axes if a.role == "loop"] == [step]
