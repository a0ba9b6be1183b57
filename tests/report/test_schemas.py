"""The schemas in docs/ are made from the code, and what `--json` prints fits them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from torch import nn
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.config import CompileOptions
from rooftile.report.explaining import explain_with
from rooftile.report.why import why
from tests.rooftile.models_to_name import Mlp, scores, sorted_scores
from tests.schemas import misfits

ROOT = Path(__file__).parent.parent.parent
MODELS = str(ROOT / "tests" / "rooftile" / "models_to_name.py")


def test_the_schemas_are_the_code_s() -> None:
    command = [sys.executable, ROOT / "docs" / "make_schemas.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/make_schemas.py"


@pytest.mark.parametrize(
    ("model", "inputs", "options"),
    [
        (Mlp(), (torch.randn(4, 16),), CompileOptions()),
        (Mlp(), (torch.randn(4, 16),), CompileOptions(target="h100")),
        (sorted_scores, (torch.randn(5, 8),), CompileOptions()),
        (scores, (torch.empty(6, 4, device="meta"), torch.empty(9, 4, device="meta")), CompileOptions(dynamic=True)),
        (nn.Softmax(-1), (torch.randn(4, 16),), CompileOptions(stop_after="axes")),
    ],
    ids=["mlp", "for an H100", "aten call", "symbols", "stopped early"],
)
def test_a_report_fits(model: Any, inputs: tuple[torch.Tensor, ...], options: CompileOptions) -> None:
    assert misfits(explain_with(model, inputs, {}, options).to_dict(), "report") == []


def test_what_is_known_of_a_value_fits() -> None:
    report = explain_with(Mlp(), (torch.randn(4, 16),), {}, CompileOptions())
    for value in {value for kernel in report.kernels for value in kernel.values}:
        for row in why(report, value):
            assert misfits(row.to_dict(), "why") == []


# For every command with --json: its arguments, and its schema. Of a list, each element has the schema.
PRINTED: dict[str, tuple[tuple[str, ...], str]] = {
    "explain": ((f"{MODELS}:with_inputs",), "report"),
    "explain --why": ((f"{MODELS}:with_inputs", "--why", "contract"), "why"),
    "explain --line": ((f"{MODELS}:with_inputs", "--line", "models_to_name.py:13"), "report"),
    "dump": ((f"{MODELS}:with_inputs", "--out", "{folder}/dump"), "dump"),
    "check": ((f"{MODELS}:with_inputs", "--nan"), "check"),
    "bisect": ((f"{MODELS}:with_inputs",), "bisect"),
    "diff": (("{folder}/a", "{folder}/h"), "diff"),
    "info": ((), "info"),
    "tune": ((f"{MODELS}:with_inputs", "--seconds", "1", "--lock", "{folder}/rooftile.lock"), "tune"),
    "tune --check": ((f"{MODELS}:with_inputs", "--check", "--lock", "{folder}/rooftile.lock"), "tune-check"),
    "cache ls": ((), "cache-ls"),
    "cache stats": ((), "cache-stats"),
    "cache why": ((f"{MODELS}:with_inputs", "--target", "h100"), "cache-why"),
}

# What is run first, so that there is something to print.
BEFORE = {
    "diff": [("dump", f"{MODELS}:with_inputs", "--out", f"{{folder}}/{x}", "-t", f"{x}100") for x in "ah"],
    "tune --check": [("tune", f"{MODELS}:with_inputs", "--seconds", "1", "--lock", "{folder}/rooftile.lock")],
    "cache ls": [("explain", f"{MODELS}:with_inputs", "--target", "h100", "--resources")],
}


def commands_with_json() -> set[str]:
    """Every subcommand that takes --json."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": each for n, each in below.items()} if below else {name: command}
    return {name for name, each in found.items() if any("--json" in option.opts for option in each.params)}


def test_every_command_has_a_schema_and_every_schema_a_command() -> None:
    assert {name.partition(" --")[0] for name in PRINTED} == commands_with_json()
    files = {path.name.removesuffix(".schema.json") for path in (ROOT / "docs" / "schemas").iterdir()}
    assert {schema for _, schema in PRINTED.values()} == files
    documented = (ROOT / "docs" / "debugging.md").read_text()
    assert all(f"schemas/{name}.schema.json" in documented for name in files)


@pytest.mark.parametrize("name", PRINTED)
def test_what_the_command_prints_fits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    given, schema = PRINTED[name]
    for before in BEFORE.get(name, ()):
        printed(*(argument.format(folder=tmp_path) for argument in before))
    command, *flag = name.split(" --")
    found = printed(*command.split(), *(argument.format(folder=tmp_path) for argument in given), "--json")
    rows = found if isinstance(found, list) else [found]
    assert rows and not [fault for row in rows for fault in misfits(row, schema)]
    assert not flag or f"--{flag[0]}" in given


def printed(*arguments: str) -> Any:
    """What a command prints, as data where that is JSON."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_a_misfit_is_seen() -> None:
    found = explain_with(Mlp(), (torch.randn(4, 16),), {}, CompileOptions()).to_dict()
    found["kernels"][0]["bytes"] = 1.5
    del found["totals"]["flops"]
    found["kernels"][0]["kind"] = "other"
    assert [text.split(":")[0] for text in misfits(found, "report")] == [
        "$.kernels[0].kind",
        "$.kernels[0].bytes",
        "$.totals",
    ]
