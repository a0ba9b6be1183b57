"""A planted fault is blamed by its name, and isolated by a script that goes wrong with it and right without."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from rooftile.blame.bisect import bisect
from rooftile.blame.check import Wanted, check_subjects
from rooftile.blame.repro import write_repro
from rooftile.blame.subject import Subject, model_subjects
from rooftile.ir.parser import parse_graph
from rooftile.target import CPU
from tests.blame.plants import PLANTS, Block, Plant, block_and_inputs


@cache
def subjects_of(model: type[nn.Module]) -> list[Subject]:
    torch._dynamo.reset()
    return model_subjects(model(), block_and_inputs()[1])[0]


@pytest.fixture
def subjects(request: pytest.FixtureRequest) -> list[Subject]:
    plant = request.node.callspec.params.get("plant") if hasattr(request.node, "callspec") else None
    return subjects_of(PLANTS[plant].model if plant else Block)


@pytest.fixture(params=PLANTS)
def plant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Plant:
    found = PLANTS[request.param]
    found.put(monkeypatch)
    return found


def test_without_a_fault_nothing_is_blamed(subjects: list[Subject]) -> None:
    report = check_subjects(subjects, None, Wanted())
    assert report.kept and not [row.name for row in report.blame if row.wrong]
    assert bisect(subjects, CPU) is None


def test_check_blames_a_planted_fault_by_name(subjects: list[Subject], plant: Plant) -> None:
    report = check_subjects(subjects, None, Wanted())
    wrong = [row for row in report.blame if row.wrong]
    assert not report.kept
    assert plant.name in [row.name for row in wrong if row.kind == plant.stage]
    assert {row.name for row in wrong if row.kind == "rewrite"} == ({plant.rewrite} if plant.rewrite else set())
    assert all(plant.note in row.note for row in wrong if row.kind in ("kernel", "plan"))
    if plant.stage == "pass":
        assert {row.name for row in wrong} == {plant.name, plant.rewrite}


def test_bisect_isolates_a_planted_fault(
    subjects: list[Subject], plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    culprit = bisect(subjects, CPU)
    assert culprit is not None
    found = culprit.row()
    assert (found.stage, found.name) == (plant.stage, plant.name)
    assert found.rewrite == plant.rewrite and plant.note in found.note
    assert found.source.rpartition("/")[2].startswith("plants.py:")
    script = write_repro(culprit, tmp_path)
    assert _exit_code(script) == 1
    before = parse_graph((tmp_path / "before.ir").read_text())
    ops = [op for graph in (before, *(r for op in before.ops for r in op.regions)) for op in graph.ops]
    assert len(ops) <= (12 if plant.stage == "pass" else len(subjects[0].graph.ops))
    monkeypatch.undo()
    assert _exit_code(script) == 0


def _exit_code(script: Path) -> int:
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(script), run_name="__main__")
    return int(exit.value.code or 0)
