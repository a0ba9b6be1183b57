"""``rooftile check`` and ``rooftile bisect``: on models, on every model of the tests, and on IR from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rooftile.blame.bisect import bisect
from rooftile.blame.check import Wanted, check_model, check_subjects
from rooftile.blame.subject import model_subjects
from rooftile.cli import app
from rooftile.reproduce import reproduce
from rooftile.target import CPU
from tests.blame.plants import PLANTS, block_and_inputs
from tests.models import BLOCKS
from tests.rooftile.test_cli import refused
from tests.schemas import misfits

MODELS = str(Path(__file__).parent.parent / "rooftile" / "models_to_name.py")
BLAMED = str(Path(__file__).parent / "models_to_blame.py")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch._dynamo.reset()


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_check_shows_results_and_what_adds_to_their_error() -> None:
    shown = run("check", f"{MODELS}:with_inputs")
    assert "the promise holds for all" in shown and "What each adds to the error, alone" in shown
    assert "fuse" in shown and "kernel" in shown


def test_check_and_bisect_work_on_a_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("dump", f"{BLAMED}:block", "-o", str(tmp_path / "dump"))
    found = json.loads(run("check", str(tmp_path / "dump"), "--json", "--no-blame"))
    assert found["kept"] and len(found["outputs"]) == 1 and not misfits(found, "check")
    assert "nothing breaks it" in run("bisect", str(tmp_path / "dump"))
    PLANTS["scale"].put(monkeypatch)
    found = json.loads(run("check", str(tmp_path / "dump"), "--json", code=1))
    assert not found["kept"] and not misfits(found, "check")
    found = json.loads(run("bisect", str(tmp_path / "dump" / "00-import.ir"), "-o", str(tmp_path), "--json", code=1))
    assert found["culprit"]["rewrite"] == "reciprocals/division" and not misfits(found, "bisect")
    assert Path(found["culprit"]["repro"]).read_text().startswith('"""to blame: pass reciprocals')


def test_bisect_takes_a_predicate() -> None:
    assert "nothing breaks it" in run("bisect", f"{BLAMED}:block", "--predicate", f"{BLAMED}:has_the_right_shape")
    shown = run("bisect", f"{BLAMED}:block", "--predicate", f"{BLAMED}:rounds_as_eager_does", code=1)
    assert "to blame: pass" in shown


def test_a_repro_takes_the_place_of_repros_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("bisect", f"{BLAMED}:block", "--predicate", f"{BLAMED}:rounds_as_eager_does", "--out")
    script = tmp_path / "repro.py"
    script.write_text("mine")
    assert "holds repro.py, which no bisection has left" in refused(monkeypatch, capsys, *arguments, str(tmp_path))
    assert script.read_text() == "mine" and list(tmp_path.iterdir()) == [script]
    assert "cannot be written" in refused(monkeypatch, capsys, *arguments, str(script / "folder"))
    script.unlink()
    for _ in range(2):
        run(*arguments, str(tmp_path), code=1)
    assert script.read_text().startswith('"""to blame')


def test_what_the_environment_asks_for_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFTILE_TARGET", "h100")
    monkeypatch.setenv("ROOFTILE_WITHOUT", "base_two")
    found = json.loads(run("check", f"{BLAMED}:block", "--no-blame", "--json"))
    assert found["device"].startswith("h100") and found["without"] == ["base_two"]
    given = json.loads(run("check", f"{BLAMED}:block", "--no-blame", "--json", "-t", "cpu", "--without", "factors"))
    assert given["device"].startswith("cpu") and given["without"] == ["factors"]


def test_a_budget_turns_off_what_exceeds_it_where_it_does() -> None:
    model, inputs = block_and_inputs()
    before = check_model(model, inputs)
    adds = {row.name: row.adds for row in before.blame}
    name = max((n for n in adds if "/" in n), key=lambda n: abs(adds[n]))
    report = check_model(model, inputs, wanted=Wanted(budget=-10.0))
    assert name in [row.name for row in report.blame if row.off]
    assert any(each.startswith(name) for each in report.without)
    assert report.outputs[0].ours != before.outputs[0].ours
    generous = check_model(model, inputs, wanted=Wanted(budget=1.0))
    assert generous.without == () and generous.outputs == before.outputs


def test_a_wrong_rewrite_is_over_any_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS["mask"].put(monkeypatch)
    report = check_subjects(model_subjects(*block_and_inputs())[0], None, Wanted(budget=1e9))
    assert report.without and all(n.startswith("canonicalize/planted_unmasked") for n in report.without)
    assert report.kept


def test_the_first_nan_and_infinity_are_named_with_their_lines() -> None:
    data = json.loads(run("check", f"{BLAMED}:overflows", "--nan", "--json", "--no-blame"))
    found = data["nonfinite"]
    assert not misfits(data, "check")
    lines = Path(BLAMED).read_text().splitlines()
    for row in found:
        text = lines[int(row["source"].rpartition(":")[2]) - 1]
        assert text.endswith({"infinity": "# overflows", "NaN": "# inf - inf"}[row["what"]]), row
    assert sorted((row["run"], row["what"]) for row in found) == [
        ("eager", "NaN"),
        ("eager", "infinity"),
        ("ours", "NaN"),
        ("ours", "infinity"),
    ]


def test_a_mask_s_infinities_are_nobody_s_fault() -> None:
    assert check_model(*block_and_inputs(), wanted=Wanted(blame=False, nan=True)).nonfinite == ()
    # here a kernel stores masked scores
    assert check_model(*BLOCKS["gpt2"](), wanted=Wanted(blame=False, nan=True)).nonfinite == ()


def test_run_time_sizes_are_those_of_the_call() -> None:
    model, (x, v, w) = block_and_inputs()
    subjects, _ = model_subjects(model, (x, v, w), dynamic=True)
    assert subjects[0].sizes
    assert check_subjects(subjects, None, Wanted()).kept
    assert bisect(subjects, CPU) is None


def test_what_a_model_writes_to_is_the_same_in_every_run(tmp_path: Path) -> None:
    counting = (f"{BLAMED}:counting",)
    found = json.loads(run("check", *counting, "--json"))
    assert found["kept"] and not [row for row in found["blame"] if row["wrong"]]
    run("dump", *counting, "-o", str(tmp_path))
    assert all(result.kept for result in reproduce(tmp_path / "00-import.ir"))
