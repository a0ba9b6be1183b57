"""Regions that share a launch are tuned as one: their schedules go together, in the lock file too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rooftile.config import Config
from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.measured import Measured, distinct
from rooftile.passes.base import PassContext
from rooftile.passes.beside import Beside
from rooftile.passes.launches import launches, sharing
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.reschedule import Reschedule
from rooftile.passes.schedules.together import Together, candidates_together
from rooftile.runtime.tuning.lock import read_lock, update_lock
from rooftile.runtime.tuning.locked import entry_of, key_in
from rooftile.runtime.tuning.search import Effort, Search
from rooftile.runtime.tuning.unit import Outcome
from rooftile.target import CPU, H100, Target
from tests.answers import assert_same_answer
from tests.passes.test_beside import Plain, Projections, imported, random_inputs

DEVICE = torch.device("cpu")
ROTARY = (lambda: Projections(4096, 32, 8, 128), ((2048, 4096), (2048, 128), (2048, 128)))
ONE_ROW = (lambda: Plain(4096, 4096), ((1, 4096),))
Case = tuple[Callable[[], torch.nn.Module], tuple[tuple[int, ...], ...]]


def lowered(case: Case, target: Target) -> Graph:
    """With launches that are shared on the CPU as well."""
    model, shapes = case
    passes = [Beside(always=target is CPU) if each.name == "beside" else each for each in PIPELINE]
    return Manager().run(imported(model(), *shapes), passes, PassContext(target))[-1].graph


def together(graph: Graph) -> tuple[Op, ...]:
    (unit,) = (unit for unit in sharing(op for op in graph.ops if op.name == "region") if len(unit) > 1)
    return unit


class Scripted:
    """A clock by which what ``price`` says is taken."""

    def __init__(self, price: Callable[[Any], float]) -> None:
        self.price = price
        self.seconds = 0.0

    def now(self) -> float:
        self.seconds += 1e-3
        return self.seconds

    def microseconds(self, calls: Sequence[Any], repeats: int) -> list[list[float]]:
        return [[self.price(call.built.schedule)] * repeats for call in calls]


def tuned(unit: tuple[Op, ...], price: Callable[[Any], float]) -> list[Outcome]:
    search = Search(CPU, DEVICE, Config.from_env(), EXACT_FP32, Effort(6, 60.0), Scripted(price))
    return list(search.run([(unit, {})]))


@pytest.mark.parametrize(("case", "more"), [(ROTARY, 8), (ONE_ROW, 4)], ids=["rotary", "one-row"])
def test_candidates_share_a_launch_but_one(case: Case, more: int) -> None:
    unit = together(lowered(case, H100))
    found = candidates_together(unit, H100, 24)
    assert found[0] == Together(tuple(Schedule.from_attrs(op.attrs) for op in unit))
    assert more <= len(found) <= 24 and sum(not each.is_shared for each in found) <= 1
    assert len({repr([s.attrs() for s in each.schedules]) for each in found}) == len(found)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return lowered((lambda: Plain(64, 128), ((48, 64),)), CPU)


def least_tiles(pick: Together) -> float:
    return 100.0 + sum(a.tile for s in pick.schedules for a in s.axes)


def test_a_launch_is_timed_as_one_and_stays_one(graph: Graph, tmp_path: Path) -> None:
    unit = together(graph)
    outcomes = tuned(unit, least_tiles)
    assert [o.op for o in outcomes] == list(unit) and all(o.unit == unit for o in outcomes)
    assert len({o.microseconds for o in outcomes}) == 1 and outcomes[0].microseconds < outcomes[0].first_microseconds
    lock = tmp_path / "rooftile.lock"
    update_lock(lock, [entry_of(o, CPU, EXACT_FP32) for o in outcomes])
    measured = Measured(CPU, DEVICE, replace(Config.from_env(), lock=lock), EXACT_FP32, {})
    better = measured.better(graph)
    assert {op: b.schedule for op, b in better.items()} == {o.op: o.schedule for o in outcomes}
    changed = Manager().run(graph, (Reschedule(better),), PassContext(CPU))[-1].graph
    assert len(launches(changed).graph.ops) == len(launches(graph).graph.ops)
    assert_same_answer(graph, changed, random_inputs(graph), {})


def test_launches_of_their_own_may_be_faster(graph: Graph) -> None:
    unit = tuple(replace(op) for op in together(graph))
    apart = Together((replace(Schedule.from_attrs(unit[0].attrs), num_warps=2), *_schedules(unit[1:])))
    assert not apart.is_shared and str(apart).endswith("in launches of their own")


def _schedules(ops: Sequence[Op]) -> list[Schedule]:
    return [Schedule.from_attrs(op.attrs) for op in ops]


def test_where_one_entry_is_missing_none_is_used(graph: Graph, tmp_path: Path) -> None:
    unit = together(graph)
    lock = tmp_path / "rooftile.lock"
    update_lock(lock, [entry_of(o, CPU, EXACT_FP32) for o in tuned(unit, least_tiles)][1:])
    assert len(read_lock(lock)) == len({key_in(unit, op, EXACT_FP32) for op in unit[1:]})
    assert Measured(CPU, DEVICE, replace(Config.from_env(), lock=lock), EXACT_FP32, {}).better(graph) == {}


def test_a_region_by_itself_is_another_kernel(graph: Graph) -> None:
    unit = together(graph)
    assert len(list(distinct([unit, *((op,) for op in unit), unit], EXACT_FP32))) == 1 + len(unit)
