"""Regions that compute just what a call of the model gives: the call is tried, kept in the lock file, and reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rooftile
from rooftile.config import CompileOptions, Config
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph, Op
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.schedules.library import Library, libraries_of
from rooftile.report.collect import report_of
from rooftile.report.explaining import compile_afresh
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.runtime.tuning.lock import read_lock, update_lock
from rooftile.runtime.tuning.locked import choice_of, entry_of
from rooftile.runtime.tuning.search import Effort, Outcome, Search
from rooftile.runtime.tuning.trials import Trial, build
from rooftile.target import CPU
from tests.regions import regions

DEVICE = torch.device("cpu")
SDPA = "aten.scaled_dot_product_attention.default"
CUDNN = "aten._scaled_dot_product_cudnn_attention.default"
FLASH = "aten._scaled_dot_product_flash_attention.default"
Tensors = tuple[Tensor, ...]


def r(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(q.shape) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask)


def from_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.view(2, 24, 4, 16).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 24, 64)


HEADS = (r(2, 4, 24, 16), r(2, 4, 24, 16), r(2, 4, 24, 16))
GROUPS = (r(2, 4, 24, 16), r(2, 2, 24, 16), r(2, 2, 24, 16))
ROWS = (r(2, 24, 64), r(2, 24, 64), r(2, 24, 64))
CASES: dict[str, tuple[Callable[..., Tensor], Tensors, tuple[str, ...]]] = {
    "full": (full, HEADS, (SDPA, CUDNN, FLASH)),
    "causal": (causal, HEADS, (SDPA, CUDNN, FLASH)),
    "grouped": (grouped, GROUPS, (SDPA, CUDNN, FLASH)),
    "repeated": (repeated, GROUPS, (SDPA, CUDNN, FLASH)),
    "a mask that is data": (masked, (*HEADS, r(2, 4, 24, 24) > 0), (SDPA,)),
    "views on both sides": (from_rows, ROWS, (SDPA, CUDNN, FLASH)),
}


def region(model: Callable[..., Any], inputs: Tensors) -> Op:
    (op,) = (op for op in regions(model, inputs) if any(o.name == "contract" for o in op.regions[0].ops))
    return op


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_the_call_gives_what_the_kernel_gives(name: str, dtype: torch.dtype) -> None:
    model, inputs, targets = CASES[name]
    op = region(model, tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs))
    choices = libraries_of(op, CPU)
    assert choices == tuple(Library((target,)) for target in targets)
    tensors = example_tensors(op, {}, DEVICE)
    ours, theirs = (
        Trial(build((op,), c, EXACT_FP32, CPU, Config.from_env()), tensors, {}, CPU, DEVICE, Config.from_env())
        for c in (Schedule.from_attrs(op.attrs), choices[0])
    )
    for _ in range(2):
        assert agree(theirs.results(), ours.results(), tolerance(op))


def spelled_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v


def more_than_the_call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).exp()


def computed_operand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k.exp(), v)


@pytest.mark.parametrize("model", [spelled_out, more_than_the_call, computed_operand])
def test_what_is_not_just_the_call_stays_a_kernel(model: Callable[..., Tensor]) -> None:
    assert libraries_of(region(model, HEADS), CPU) == ()


def _graphs(model: Callable[..., Tensor], inputs: Tensors) -> tuple[Graph, Graph]:
    class Model(torch.nn.Module):
        def forward(self, *args: Tensor) -> Tensor:
            return model(*args)

    imported = import_captured(capture_exported(torch.export.export(Model(), inputs))).graph
    return imported, Manager().run(imported, PIPELINE, PassContext(CPU))[-1].graph


def test_notes_and_calls_are_text() -> None:
    imported, lowered = _graphs(from_rows, ROWS)
    for graph, text in ((imported, "called("), (lowered, f'call=[0, "{SDPA}"')):
        printed = print_graph(graph)
        assert text in printed and print_graph(parse_graph(printed)) == printed
    assert not any(op.name == "called" for op in lowered.ops)


class Favouring:
    """A clock by which ATen calls are fast."""

    def now(self) -> float:
        return 0.0

    def microseconds(self, calls: Any, repeats: int) -> list[list[float]]:
        return [[1.0 if isinstance(call.built.schedule, Library) else 2.0] * repeats for call in calls]


def test_the_tuner_tries_all_and_goes_past_what_aten_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_library", lambda self, op: libraries_of(op, CPU))
    search = Search(CPU, DEVICE, Config.from_env(), EXACT_FP32, Effort(4, 60.0), Favouring())
    (found,) = search.run([(region(*CASES["causal"][:2]), {})])
    assert found.schedule == Library((SDPA,)) and found.microseconds == 1.0  # the others are for GPUs


def test_a_locked_call_is_run_and_reported(tmp_path: Path) -> None:
    model, inputs, _ = CASES["views on both sides"]
    op, lock = region(model, inputs), tmp_path / "rooftile.lock"
    update_lock(lock, [entry_of(Outcome(op, (op,), {}, Library((SDPA,)), 1.0, 2.0), CPU, EXACT_FP32)])
    (entry,) = read_lock(lock)
    assert choice_of(entry, op, CPU) == Library((SDPA,))
    options = {"lock": str(lock), "require": ["no-extern"]}
    torch.testing.assert_close(rooftile.compile(model, options=options)(*inputs), model(*inputs))
    (found,), _ = compile_afresh(model, inputs, {}, CompileOptions.from_user(None, None, options))
    report = report_of([found])
    (kernel,) = report.kernels
    assert (kernel.kind, kernel.name) == ("library", SDPA) and kernel.floor_us is not None
    (row,) = (row for row in report.ledger if row.decision == "rescheduled")
    assert row.reason == f"{SDPA}: 1.0 us, the first choice 2.0 us, on cpu"
    generated = CompileOptions.from_user(None, None, {"lock": str(lock), "library": False})
    (ours,), _ = compile_afresh(model, inputs, {}, generated)
    assert kernel.flops == report_of([ours]).kernels[0].flops


def test_a_part_of_a_sweep_is_no_call() -> None:
    inputs = tuple(torch.empty(1, 8, n, 64, dtype=torch.bfloat16, device="meta") for n in (1, 8192, 8192))
    cut = regions(full, inputs, target="h100")
    assert len(cut) == 2 and not any("call" in op.attrs for op in cut)
