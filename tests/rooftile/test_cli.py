"""The command line: what it prints, and one clear message with exit code 2 where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rooftile.cli import app, main
from rooftile.cli.opt import split_passes
from rooftile.config import VARIABLES
from rooftile.errors import OptionError, RooftileError
from rooftile.ir.parser import parse_graph
from rooftile.named_model import named_model, random_tensor

MODELS = str(Path(__file__).parent / "models_to_name.py")
CPU = torch.device("cpu")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["rooftile", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_explain_prints_tables() -> None:
    shown = run("explain", f"{MODELS}:model", "-i", "f32[4, 16]")
    assert "Kernels, in order" in shown and "down_contract" in shown and "Decisions" in shown


def test_explain_gives_json() -> None:
    report = json.loads(run("explain", f"{MODELS}:with_inputs", "--json"))
    assert report["totals"]["kernels"] == len(report["kernels"]) > 0


def test_explain_takes_a_function_and_its_inputs() -> None:
    report = json.loads(run("explain", f"{MODELS}:scores", "-i", "f32[4, 8]", "-i", "f32[6, 8]", "--json"))
    assert sorted(b["shape"] for b in report["buffers"] if b["role"] == "input") == [[4, 8], [6, 8]]


def test_explain_for_a_device_that_is_not_here() -> None:
    assert "h100, not here" in run("explain", f"{MODELS}:model", "-i", "inputs", "--target", "h100")


def test_explain_a_model_that_has_no_memory() -> None:
    shown = run("explain", f"{MODELS}:huge", "-i", "bf16[1, 8192]", "--target", "h100", "--meta", "--json")
    (weight,) = [b for b in json.loads(shown)["buffers"] if b["role"] == "weight"]
    assert weight["bytes"] == 4 * 2**40


def test_explain_and_dump_a_model_that_was_made_without_memory(tmp_path: Path) -> None:
    named = (f"{MODELS}:without_values", "-i", "f32[4, 16]")
    assert json.loads(run("explain", *named, "--json"))["totals"]["kernels"] > 0
    assert "plan.txt" in run("dump", *named, "-o", str(tmp_path))


def test_what_a_file_compiles_when_it_is_imported_changes_nothing() -> None:
    file = Path(__file__).parent / "compiles_at_import.py"
    report = json.loads(run("explain", f"{file}:Model", "-i", "f32[6, 10]", "--json"))
    assert [b["shape"] for b in report["buffers"] if b["role"] == "input"] == [[6, 10]]  # no run-time sizes


def test_what_is_compiled_with_another_backend_is_not_compiled_again() -> None:
    from tests.rooftile.compiles_at_import import report

    assert all(row.decision != "compiled again" for row in report.ledger)


@pytest.mark.parametrize("command", ["check", "bisect", "tune"])
def test_what_is_run_has_values(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(monkeypatch, capsys, command, f"{MODELS}:without_values", "-i", "f32[4, 16]")
    assert "without values" in message and "rooftile explain" in message


def test_dump_writes_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "plan.txt" in run("dump", f"{MODELS}:with_inputs", "-o", str(out))
    assert (out / "00-import.ir").is_file() and (out / "repro.py").is_file()


def test_opt_runs_passes_on_text(tmp_path: Path) -> None:
    run("dump", f"{MODELS}:with_inputs", "-o", str(tmp_path))
    fused = run("opt", str(tmp_path / "00-import.ir"), "--passes", "canonicalize, axes, fuse", "--target", "cpu")
    assert {op.name for op in parse_graph(fused).ops} == {"region"}


def test_info_names_the_target_that_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFTILE_TARGET", "h200")
    assert json.loads(run("info", "--json"))["target"] == "h200 (sm_90, 132 processors)"


def test_info_lists_every_variable() -> None:
    shown = run("info")
    assert all(v.name in shown for v in VARIABLES)
    assert json.loads(run("info", "--json"))["torch"] == str(torch.__version__)


def test_the_cache_is_shown_and_emptied() -> None:
    assert "kernels deleted" in run("cache", "--clear")  # of other tests', if some ran in this process
    assert "0 kernels, 0.0 MB" in run("cache")
    assert "0 kernels deleted" in run("cache", "--clear")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", f"{MODELS}:modle"), "did you mean 'model'?"),
        (("explain", f"{MODELS}:model"), "comes without inputs"),
        (("explain", f"{MODELS}:number"), "is a int"),
        (("explain", f"{MODELS}:inputs"), r"inputs() gave"),
        (("explain", f"{MODELS}:Sized"), "a class that takes arguments"),
        (("explain", "no_such_file.py:model"), "no file 'no_such_file.py'"),
        (("explain", "no_such_package:model"), "no module 'no_such_package'"),
        (("explain", "model"), "names no model"),
        (("explain", f"{MODELS}:model", "-i", "f33[4, 16]"), "did you mean 'f32'?"),
        (("explain", f"{MODELS}:model", "-i", "f32 4 16"), "is no input"),
        (("explain", f"{MODELS}:model", "-i", "inputs", "--target", "h10"), "did you mean 'h100'?"),
        (("opt", "no_such.ir", "-p", "fuse"), "no file 'no_such.ir'"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(monkeypatch, capsys, *arguments)


def test_a_mistake_in_ir_text_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.ir"
    file.write_text("graph g(%x: f32[4]) {\n    %y = pointwise.sinn(%x) : f32[4]\n    return %y\n}\n")
    assert "bad.ir:line 2" in refused(monkeypatch, capsys, "opt", str(file), "-p", "fuse")


def test_debugging_shows_where_an_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFTILE_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["rooftile", "explain", "model"])
    with pytest.raises(OptionError):
        main()


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, rooftile.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_passes_are_split_outside_of_braces() -> None:
    assert split_passes("a, b{x=1, y=2},c,") == ["a", "b{x=1, y=2}", "c"]


def test_named_models_bring_or_take_inputs() -> None:
    assert named_model(f"{MODELS}:with_inputs", [], CPU).inputs[0].shape == (3, 16)
    assert named_model(f"{MODELS}:model", ["inputs"], CPU).inputs[0].shape == (2, 5, 16)
    assert named_model("torch:relu", ["f32[2]"], CPU).model is torch.relu


def test_random_tensors_follow_their_type() -> None:
    assert random_tensor("bf16[1, 2,3]").dtype is torch.bfloat16
    assert random_tensor("i64[9]").min() >= 0
    assert random_tensor("b1[]").shape == ()
    with pytest.raises(RooftileError):
        random_tensor("f32[a]")
