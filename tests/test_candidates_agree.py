"""Every candidate for an H100 computes what the first choice does: here with few processors, in the CPU's evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rooftile.codegen.emit import emit
from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.lower import Lower
from rooftile.passes.schedules.candidates import candidates
from rooftile.passes.schedules.override import rescheduled
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.plan import make_plan
from rooftile.runtime.program import Program
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.target import H100
from tests.regions import attention, matmul, meta, norm, regions

CPU = torch.device("cpu")
FEW = replace(H100, sm_count=4)  # so that persistent programs take several tiles of small results


def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.silu(x @ gate.t()) * (x @ up.t())


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    future = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    return ((q @ k.transpose(-1, -2) / 8).masked_fill(future, -torch.inf)).softmax(-1) @ v


def experts(
    x: torch.Tensor, rows: torch.Tensor, w: torch.Tensor, ends: torch.Tensor, order: torch.Tensor
) -> torch.Tensor:
    gate, up = torch._grouped_mm(x[rows], w, ends).chunk(2, -1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return (F.silu(gate) * up)[back]


def integers(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return meta(*shape, dtype=dtype)


CASES: dict[str, tuple[Callable[..., Any], Sequence[torch.Tensor], int]] = {
    "matmul": (matmul, (meta(300, 72), meta(72, 333)), 10),
    "aligned": (matmul, (meta(400, 136), meta(136, 264)), 6),
    "swiglu": (swiglu, (meta(200, 72), meta(264, 72), meta(264, 72)), 6),
    "attention": (attention, [meta(1, 520, 64)] * 3, 6),
    "causal": (causal, [meta(1, 520, 64)] * 3, 6),
    "experts": (
        experts,
        (meta(80, 72), integers(300), meta(5, 72, 144), integers(5, dtype=torch.int32), integers(300)),
        6,
    ),
    "norm": (norm, (meta(70, 520),), 8),
    "fp32": (matmul, (meta(130, 72, dtype=torch.float32), meta(72, 136, dtype=torch.float32)), 8),
}


def computed(op: Op, schedule: Schedule) -> list[torch.Tensor]:
    lowered = Lower().lower(rescheduled(op, schedule))
    kernel = emit(lowered.regions[1], FEW, lowered.regions[0])
    plan = make_plan(Graph("candidate", lowered.inputs, (lowered,), lowered.outputs), {lowered: kernel})
    return Program(plan, [CpuLauncher(kernel)], CPU)(example_tensors(op, {}, CPU))


@pytest.mark.parametrize("case", CASES)
def test_every_candidate_agrees_with_the_first(case: str) -> None:
    model, inputs, most = CASES[case]
    for op in regions(model, inputs, target="h100"):
        first, *others = candidates(op.regions[0], FEW, most)
        wanted = computed(op, first)
        wrong = [s for s in others if not agree(computed(op, s), wanted, tolerance(op))]
        assert wrong == []
