"""The schemas in docs/ are made from the code, and what `--json` prints fits them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
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


def test_what_the_command_prints_fits() -> None:
    arguments = ["explain", f"{MODELS}:with_inputs", "--json"]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert misfits(json.loads(printed), "report") == []


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
