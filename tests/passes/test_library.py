"""Regions whose contractions a library does: the same results, and a place in the lock file and the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import rooftile
from rooftile.config import CompileOptions, Config
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.schedules.library import Library, libraries_of
from rooftile.report.collect import report_of
from rooftile.report.explaining import compile_afresh
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.runtime.tuning.lock import read_lock, update_lock
from rooftile.runtime.tuning.locked import Misfit, choice_of, entry_of
from rooftile.runtime.tuning.search import Effort, Outcome, Search
from rooftile.runtime.tuning.trials import Trial, build
from rooftile.target import CPU
from tests.regions import regions

DEVICE = torch.device("cpu")
Tensors = tuple[torch.Tensor, ...]


def r(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def linear(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w)


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x @ w


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.transpose(-1, -2)


def activated(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return residual + F.gelu(F.linear(x, w, bias))


def gated(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.silu(F.linear(x, gate)) * F.linear(x, up)


def squared(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ik,jk->ji", x, x)


def heads(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w).view(2, 8, 4, 8).transpose(1, 2)


LINEAR, MATMUL, EINSUM = "aten.linear.default", "aten.matmul.default", "aten.einsum.default"
CASES: dict[str, tuple[Callable[..., torch.Tensor], Tensors, tuple[str, ...]]] = {
    "linear": (linear, (r(2, 8, 32), r(48, 32)), (LINEAR,)),
    "matmul": (product, (r(16, 32), r(32, 48)), (MATMUL,)),
    "batched": (product, (r(3, 16, 32), r(3, 32, 48)), (MATMUL,)),
    "transposed": (scores, (r(2, 3, 16, 8), r(2, 3, 24, 8)), (EINSUM,)),
    "epilogue": (activated, (r(2, 8, 32), r(48, 32), r(48), r(2, 8, 48)), (LINEAR,)),
    "two": (gated, (r(16, 32), r(48, 32), r(48, 32)), (LINEAR, LINEAR)),
    "views behind": (heads, (r(2, 8, 32), r(32, 32)), (LINEAR,)),
    "one tensor twice": (squared, (r(16, 32),), (EINSUM,)),
}


def region(model: Callable[..., Any], inputs: Tensors) -> Op:
    (op,) = regions(model, inputs)
    return op


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_calls_give_what_the_kernel_gives(name: str, dtype: torch.dtype) -> None:
    model, inputs, calls = CASES[name]
    op = region(model, tuple(x.to(dtype) for x in inputs))
    (choice,) = libraries_of(op, CPU)
    assert choice == Library(calls)
    tensors = example_tensors(op, {}, DEVICE)
    ours, theirs = (
        Trial(build((op,), c, EXACT_FP32, CPU, Config.from_env()), tensors, {}, CPU, DEVICE, Config.from_env())
        for c in (Schedule.from_attrs(op.attrs), choice)
    )
    for _ in range(2):  # a trial runs many times
        assert agree(theirs.results(), ours.results(), tolerance(op))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


def computed(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.relu(x).sin() @ w


@pytest.mark.parametrize(("model", "inputs"), [(attention, (r(2, 16, 8),) * 3), (computed, (r(16, 32), r(32, 48)))])
def test_what_is_computed_on_the_way_in_stays_a_kernel(model: Any, inputs: Tensors) -> None:
    assert [
        libraries_of(op, CPU) for op in regions(model, inputs) if any(o.name == "contract" for o in op.regions[0].ops)
    ] == [()]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file by which a library does ``activated``."""
    model, inputs, _ = CASES["epilogue"]
    op = region(model, inputs)
    (choice,) = libraries_of(op, CPU)
    update_lock(tmp_path / "rooftile.lock", [entry_of(Outcome(op, (op,), {}, choice, 1.0, 2.0), CPU, EXACT_FP32)])
    return tmp_path / "rooftile.lock"


def test_the_lock_file_names_the_calls(lock: Path) -> None:
    (entry,) = read_lock(lock)
    assert 'library = ["aten.linear.default"]' in lock.read_text() and "axes" not in lock.read_text()
    op = region(*CASES["epilogue"][:2])
    assert choice_of(entry, op, CPU) == Library((LINEAR,))
    with pytest.raises(Misfit, match="libraries are off"):
        choice_of(entry, op, CPU, library=False)
    with pytest.raises(Misfit, match="not what the region computes"):
        choice_of(entry, region(*CASES["matmul"][:2]), CPU)


def test_a_locked_library_is_run_and_reported(lock: Path) -> None:
    model, inputs, _ = CASES["epilogue"]
    options = {"lock": str(lock), "require": ["no-extern"]}
    torch.testing.assert_close(rooftile.compile(model, options=options)(*inputs), model(*inputs))
    (found,), _ = compile_afresh(model, inputs, {}, CompileOptions.from_user(None, None, options))
    report = report_of([found])
    assert [(k.kind, k.name) for k in report.kernels] == [("library", LINEAR), ("triton", "contract")]
    assert report.kernels[0].flops == 2 * 16 * 48 * 32 and report.kernels[0].floor_us is not None
    (row,) = (row for row in report.ledger if row.decision == "rescheduled")
    assert row.reason == "aten.linear.default: 1.0 us, the first choice 2.0 us, on cpu"
    assert not any(row.decision == "extern" for row in report.ledger)


def test_libraries_can_be_off(lock: Path) -> None:
    model, inputs, _ = CASES["epilogue"]
    options = CompileOptions.from_user(None, None, {"lock": str(lock), "library": False})
    (found,), _ = compile_afresh(model, inputs, {}, options)
    assert [k.kind for k in report_of([found]).kernels] == ["triton"]


class Favouring:
    """A clock by which a library's kernels are fast."""

    def __init__(self) -> None:
        self.asked: set[type] = set()

    def now(self) -> float:
        return 0.0

    def microseconds(self, calls: Any, repeats: int) -> list[list[float]]:
        self.asked |= {type(call.built.schedule) for call in calls}
        return [[1.0 if isinstance(call.built.schedule, Library) else 2.0] * repeats for call in calls]


def test_the_tuner_tries_it_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    op = region(*CASES["two"][:2])
    search = Search(CPU, DEVICE, Config.from_env(), EXACT_FP32, Effort(4, 60.0), Favouring())
    (found,) = search.run([(op, {})])
    assert not isinstance(found.schedule, Library)  # on the CPU, where kernels are interpreted
    monkeypatch.setattr(Search, "_library", lambda self, op: libraries_of(op, CPU))
    (found,) = search.run([(op, {})])
    assert found.schedule == Library((LINEAR, LINEAR)) and found.microseconds == 1.0
