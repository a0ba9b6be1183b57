"""Searching for schedules on the CPU, by a clock that says what the test wants to be fast."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rooftile.config import Config
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.runtime.build import CompileError
from rooftile.runtime.cuda_driver import CudaError
from rooftile.runtime.tuning import search as module
from rooftile.runtime.tuning.faults import Faulted
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.runtime.tuning.search import Effort, Search
from rooftile.runtime.tuning.trials import Built, Trial, build
from rooftile.runtime.tuning.unit import Outcome
from rooftile.target import CPU
from tests.regions import matmul, norm, regions

DEVICE = torch.device("cpu")
EFFORT = Effort(8, 60.0)


class Scripted:
    """A clock by which a trial takes what ``price`` says of its schedule; looking at it takes a millisecond."""

    def __init__(self, price: Callable[[Schedule], float]) -> None:
        self.price = price
        self.seconds = 0.0
        self.asked: list[Schedule] = []

    def now(self) -> float:
        self.seconds += 1e-3
        return self.seconds

    def microseconds(self, calls: Sequence[Any], repeats: int) -> list[list[float]]:
        self.asked += [call.built.schedule for call in calls]
        return [[self.price(call.built.schedule)] * repeats for call in calls]


def smallest_tiles(schedule: Schedule) -> float:
    return 100.0 + sum(a.tile for a in schedule.axes)


def search(clock: Any, effort: Effort = EFFORT) -> Search:
    return Search(CPU, DEVICE, Config.from_env(), EXACT_FP32, effort, clock)


@pytest.fixture(scope="module")
def product() -> Op:
    (op,) = regions(matmul, (torch.randn(96, 64), torch.randn(64, 80)))
    return op


def outcome(op: Op, clock: Any, effort: Effort = EFFORT) -> Outcome:
    (found,) = search(clock, effort).run([(op, {})])
    return found


def test_the_fastest_is_chosen_and_its_time_told(product: Op) -> None:
    clock = Scripted(smallest_tiles)
    found = outcome(product, clock)
    assert smallest_tiles(found.schedule) == min(map(smallest_tiles, clock.asked)) == found.microseconds
    assert found.first_microseconds == smallest_tiles(Schedule.from_attrs(product.attrs)) > found.microseconds
    assert found.timed > 1


def test_all_that_was_timed_is_told_the_fastest_first(product: Op) -> None:
    clock = Scripted(smallest_tiles)
    found = outcome(product, clock)
    assert {str(tried.schedule) for tried in found.tried} == set(map(str, clock.asked))
    assert [tried.microseconds for tried in found.tried] == sorted(smallest_tiles(t.schedule) for t in found.tried)
    assert found.tried[0].runs > min(tried.runs for tried in found.tried)


def test_a_kernel_that_faults_is_named_and_not_tried_again(
    product: Op, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fault(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    config = replace(Config.from_env(), cache_dir=tmp_path)
    slow = outcome(product, Scripted(smallest_tiles)).tried[-2].schedule
    trial = Trial(
        build((product,), slow, EXACT_FP32, CPU, config), example_tensors(product, {}, DEVICE), {}, CPU, DEVICE, config
    )
    trial._device = torch.device("cuda")
    with (
        monkeypatch.context() as patch,
        pytest.raises(Faulted, match=r"`contract` faulted .* n: grid.* illegal memory"),
    ):
        patch.setattr(torch.cuda, "synchronize", fault)
        trial.try_out()
    clock = Scripted(smallest_tiles)
    (found,) = Search(CPU, DEVICE, config, EXACT_FP32, EFFORT, clock).run([(product, {})])
    assert found.timed > 1 and slow not in clock.asked


def test_the_first_choice_stays_where_nothing_beats_it(product: Op) -> None:
    found = outcome(product, Scripted(lambda schedule: 50.0))
    assert found.schedule == Schedule.from_attrs(product.attrs)


def test_a_wrong_winner_is_not_used(
    product: Op, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = Trial.results
    best = outcome(product, Scripted(smallest_tiles)).schedule

    def results(self: Trial) -> list[torch.Tensor]:
        return [r + 1 if self.built.schedule == best else r for r in right(self)]

    monkeypatch.setattr(Trial, "results", results)
    found = outcome(product, Scripted(smallest_tiles))
    assert found.schedule != best and found.microseconds is not None
    assert "gives another answer: not used" in caplog.text


def test_candidates_that_do_not_compile_are_left_out(
    product: Op, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = Schedule.from_attrs(product.attrs)

    def refuse(unit: tuple[Op, ...], schedule: Schedule, *rest: Any) -> Built:
        if schedule != first:
            raise CompileError("out of resource: shared memory")
        return build(unit, schedule, *rest)

    monkeypatch.setattr(module, "build", refuse)
    with caplog.at_level(logging.INFO, "rooftile.tuning"):
        found = outcome(product, Scripted(smallest_tiles))
    assert (found.schedule, found.timed) == (first, 1)
    assert "out of resource" in caplog.text


def test_candidates_that_cannot_be_launched_are_left_out(product: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    first, run = Schedule.from_attrs(product.attrs), Trial.__call__

    def launch(trial: Trial) -> None:
        if trial.built.schedule != first:
            raise CudaError("cuLaunchKernelEx failed: too many resources requested for launch (701)")
        run(trial)

    monkeypatch.setattr(Trial, "__call__", launch)
    found = outcome(product, Scripted(smallest_tiles))
    assert (found.schedule, found.timed) == (first, 1)


def test_candidates_that_spill_are_left_out(product: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Schedule.from_attrs(product.attrs)
    monkeypatch.setattr(Built, "spill_bytes", property(lambda built: 0 if built.schedule == first else 16))
    clock = Scripted(smallest_tiles)
    assert outcome(product, clock).schedule == first
    assert all(schedule == first for schedule in clock.asked)


def test_when_the_time_is_up_first_choices_stay(product: Op) -> None:
    found = outcome(product, Scripted(smallest_tiles), Effort(8, 0.0))
    assert (found.schedule, found.microseconds, found.timed) == (Schedule.from_attrs(product.attrs), None, 0)


def test_ctrl_c_keeps_what_has_been_found() -> None:
    long, short = (
        *regions(matmul, (torch.randn(256, 64), torch.randn(64, 128))),
        *regions(norm, (torch.randn(8, 32),)),
    )

    class Interrupted(Scripted):
        def microseconds(self, calls: Sequence[Any], repeats: int) -> list[list[float]]:
            if any(call.built.op == short for call in calls):
                raise KeyboardInterrupt
            return super().microseconds(calls, repeats)

    config = replace(Config.from_env(), compile_workers=1)  # first choices are ready in order
    running = Search(CPU, DEVICE, config, EXACT_FP32, EFFORT, Interrupted(smallest_tiles))
    timed = {o.op: o.timed for o in running.run([(op, {}) for op in (long, short)])}
    assert timed[long] > 0 == timed[short]
    assert running.interrupted


def test_what_takes_little_time_beside_the_others_is_timed_once() -> None:
    (short,) = regions(norm, (torch.randn(8, 32),))
    (long,) = regions(matmul, (torch.randn(4096, 64), torch.randn(64, 512)))
    running = search(Scripted(lambda schedule: 1e6 if len(schedule.axes) == 3 else 1.0), Effort(6, 60.0))
    timed = {o.op: o.timed for o in running.run([(op, {}) for op in (short, long)])}
    assert timed[short] == 1 < timed[long]


def test_what_runs_often_is_worth_more() -> None:
    (short,) = regions(norm, (torch.randn(8, 32),))
    (long,) = regions(matmul, (torch.randn(4096, 64), torch.randn(64, 512)))
    running = search(Scripted(lambda schedule: 1.0), Effort(6, 60.0))
    timed = {o.op: o.timed for o in running.run([((short,), {}, 10**9), (long, {})])}
    assert timed[long] == 1 < timed[short]


def test_kernels_that_turn_out_the_same_are_timed_once(product: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Schedule.from_attrs(product.attrs)
    twins = [first, replace(first, descriptors=True), replace(first, num_stages=first.num_stages)]
    monkeypatch.setattr(module, "candidates", lambda body, target, most: twins)
    monkeypatch.setattr(Built, "key", lambda built, target: "the same")
    assert outcome(product, Scripted(smallest_tiles)).timed == 1


def test_progress_is_told(product: Op) -> None:
    told: list[tuple[str, int, int]] = []
    running = search(Scripted(smallest_tiles))
    running.progress = lambda what, done, total: told.append((what, done, total))
    list(running.run([(product, {})]))
    assert told[0][0] == "compiling" and told[-1] == ("done", 1, 1)


def test_examples_are_the_same_each_time_and_of_the_right_form(product: Op) -> None:
    first, again = (example_tensors(product, {}, DEVICE) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [tuple(t.shape) for t in first] == [v.shape for v in product.inputs]


def test_agreement_is_up_to_rounding(product: Op) -> None:
    a = torch.randn(100)
    allowed = tolerance(product)
    assert agree([a], [a * (1 + 1e-6)], allowed) and not agree([a], [a * 1.01], allowed)
    assert not agree([a], [a.masked_fill(a > 1, torch.nan)], allowed)
    assert agree([torch.full((3,), torch.inf)], [torch.full((3,), torch.inf)], allowed)
    assert agree([torch.arange(3)], [torch.arange(3)], allowed) and not agree(
        [torch.arange(3)], [torch.ones(3)], allowed
    )
