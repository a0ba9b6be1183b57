"""Every command on every model of the tests, by name and from what was dumped of it on disk.

A model is compiled four times: for the dump, for explaining it from disk, for `check` and for `bisect`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.config import CompileOptions
from rooftile.ir.parser import parse_graph
from rooftile.plans import Plans
from rooftile.report import Report
from rooftile.report.collect import report_of
from rooftile.report.explaining import compile_files
from rooftile.report.terminal import about_lines, about_values, explanation
from rooftile.report.text import as_text
from rooftile.report.why import about_line, why
from tests.models import BLOCKS
from tests.schemas import misfits

TARGET = ("--target", "h100")
NAMED = """from tests.models import BLOCKS


def model():
    return BLOCKS[{name!r}]()
"""


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


@dataclass(frozen=True)
class Dumped:
    """A dump of a model, by the command, and the report on it from disk."""

    folder: Path
    printed: Any
    report: Report

    @property
    def stages(self) -> list[Path]:
        return sorted(self.folder.glob("*.ir"))


@pytest.fixture(scope="module", params=BLOCKS)
def dumped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dumped:
    torch._dynamo.reset()
    place = tmp_path_factory.mktemp(request.param)
    (place / f"named_{request.param}.py").write_text(NAMED.format(name=request.param))
    model = f"{place / f'named_{request.param}.py'}:model"
    (printed,) = json.loads(run("dump", model, "--out", place / "dump", *TARGET, "--json"))
    compilations = compile_files(place / "dump", CompileOptions(target="h100"), meta=True)
    return Dumped(place / "dump", printed, report_of(compilations))


def test_what_was_dumped_is_there(dumped: Dumped) -> None:
    assert not misfits(dumped.printed, "dump") and dumped.printed["folder"] == str(dumped.folder)
    assert {"00-import.ir", "plan.txt", "index.html", "report.json", "repro.py"} <= set(dumped.printed["files"])
    assert all((dumped.folder / file).is_file() for file in dumped.printed["files"])
    report = json.loads((dumped.folder / "report.json").read_text())
    assert not misfits(report, "report")
    kernels = {file.stem for file in (dumped.folder / "kernels").iterdir()}
    assert kernels == {row["name"] for row in (*report["kernels"], *report["packed"]) if row["kind"] == "triton"}


def test_explain_says_of_a_dump_what_it_says_of_the_model(dumped: Dumped, tmp_path: Path) -> None:
    ours, theirs = dumped.report.to_dict(), json.loads((dumped.folder / "report.json").read_text())
    assert not misfits(ours, "report")
    for part in ("kernels", "packed", "buffers", "ledger", "derivations", "notes", "totals"):
        assert ours[part] == theirs[part], part
    assert dumped.report.save(tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert as_text(dumped.report) and explanation(dumped.report, derivations=True)


def test_every_value_and_line_can_be_asked_about(dumped: Dumped) -> None:
    names = {name for kernel in dumped.report.kernels for name in kernel.values}
    names |= {name for row in dumped.report.ledger for name in row.values if row.rule != "merge"}
    for name in names:
        rows = why(dumped.report, name)
        assert rows and not [fault for row in rows for fault in misfits(row.to_dict(), "why")]
        assert about_values(rows)
    for source in {source for kernel in dumped.report.kernels for source in kernel.sources}:
        found = about_line(dumped.report, source)
        assert found.kernels and about_lines(found, source)


def test_opt_runs_a_pass_on_a_stage_from_disk_and_gives_the_next(dumped: Dumped) -> None:
    first, second = dumped.stages[:2]
    assert run("opt", first, "--passes", "canonicalize", *TARGET) == second.read_text()
    before, last = dumped.stages[-2:]
    assert run("opt", before, "--passes", "lower", *TARGET) == last.read_text()


def test_a_dump_differs_from_itself_in_nothing_but_names(dumped: Dumped, tmp_path: Path) -> None:
    shutil.copytree(dumped.folder, tmp_path / "b")
    for file in (tmp_path / "b").glob("*.ir"):
        file.write_text(re.sub(r"%(?=\w)", "%z", file.read_text()))
    found = json.loads(run("diff", dumped.folder, tmp_path / "b", "--json"))
    assert found["same"] and len(found["passes"]) > len(found["kernels"]) > 0 and not misfits(found, "diff")


def test_check_and_bisect_find_nothing_wrong_on_disk(dumped: Dumped) -> None:
    found = json.loads(run("check", dumped.folder, *TARGET, "--no-blame", "--nan", "--json"))
    assert found["kept"] and found["outputs"] and not found["nonfinite"] and not misfits(found, "check")
    assert "nothing breaks it" in run("bisect", dumped.stages[0], *TARGET)


def test_the_plan_has_no_fault(dumped: Dumped) -> None:
    (compilation,) = dumped.report.compilations
    assert compilation.plan is not None
    assert Plans(compilation.plan, compilation.packing).faults(compilation.sizes) == []
    assert parse_graph(dumped.stages[-1].read_text()).ops
