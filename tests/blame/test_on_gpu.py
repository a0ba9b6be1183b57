"""What `check`, `bisect` and `explain` say where kernels run on a GPU."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

import rooftile
from rooftile.blame.bisect import bisect
from rooftile.blame.check import Wanted, check_model
from rooftile.blame.repro import write_repro
from rooftile.blame.subject import model_subjects
from rooftile.runtime.devices import default_target
from rooftile.textbook import Sizes, block_and_input
from tests.blame.plants import PLANTS, block_and_inputs

pytestmark = pytest.mark.gpu

MIDDLE = Sizes(batch=1, length=512, width=512, heads=8, groups=2, hidden=1024, dtype=torch.bfloat16)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def test_nothing_is_blamed_where_nothing_is_wrong() -> None:
    block, x = block_and_input(MIDDLE, torch.device("cuda"))
    report = check_model(block, (x,), wanted=Wanted(nan=True))
    assert report.kept and not report.nonfinite
    assert {row.kind for row in report.blame} >= {"pass", "rewrite", "kernel"}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_isolated(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = PLANTS[name]
    plant.put(monkeypatch)
    subjects = model_subjects(plant.model(), block_and_inputs(device="cuda", sizes=plant.sizes_on_gpu)[1])[0]
    culprit = bisect(subjects, default_target())
    assert culprit is not None
    found = culprit.row()
    assert (found.stage, found.rewrite) == (plant.stage, plant.rewrite)
    assert found.name == plant.name or plant.stage == "kernel"  # others share a kernel there
    script = write_repro(culprit, tmp_path)
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(script), run_name="__main__")
    assert exit.value.code == 1


def test_every_kernel_of_a_call_has_a_time_and_a_place_under_the_roofline() -> None:
    block, x = block_and_input(MIDDLE, torch.device("cuda"))
    with torch.no_grad():
        report = rooftile.explain(block, x)
    for kernel in report.kernels:
        assert kernel.time_us is not None and kernel.time_us > 0 and kernel.resources is not None
        assert kernel.roofline is not None and kernel.floor_us and kernel.times_floor
    assert "measured" in str(report) and "x floor" in str(report)
