"""``rooftile diff``: nothing where nothing differs, and what differs where something does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.comparing.dumps import diff_dumps
from rooftile.config import CompileOptions
from rooftile.errors import OptionError
from rooftile.report.explaining import compile_afresh
from tests.models import BLOCKS
from tests.schemas import misfits

Dump = Callable[..., Path]


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    def write(name: str, model: str = "textbook", given: dict[str, Any] | None = None, **options: Any) -> Path:
        torch._dynamo.reset()
        block, inputs = BLOCKS[model](device="meta", **(given or {}))
        folder = tmp_path / name
        with torch.no_grad():
            compile_afresh(block, inputs, {}, CompileOptions.from_user(options={"dump": folder, **options}))
        return folder

    return write


def test_two_dumps_of_the_same_are_the_same(dump: Dump) -> None:
    found = diff_dumps(dump("a", target="h100"), dump("b", target="h100"))
    assert found.same and not found.facts and {row.status for row in (*found.passes, *found.kernels)} == {"same"}


def test_an_option_s_effect_starts_at_its_pass(dump: Dump) -> None:
    found = diff_dumps(dump("a", target="h100"), dump("b", target="h100", without=["fused"]))
    changed = [row.name for row in found.passes if row.status == "changed"]
    assert changed[0] == "fuse" and found.passes[0].status == "same"
    assert "only in b" in {row.status for row in found.kernels}
    assert {row.kind for row in found.decisions if row.status == "only in a"} >= {"fused"}
    kernels = {c.name: (c.a, c.b) for c in found.facts}["totals kernels"]
    assert kernels[0] < kernels[1]


def test_another_device_is_a_fact_and_has_other_floors(dump: Dump) -> None:
    found = diff_dumps(dump("a", target="h100"), dump("b", target="a100"))
    assert "device" in {change.name for change in found.facts}
    assert "floor_us" in {change.name for row in found.kernels for change in row.changes}


def test_a_rewrite_s_effect_on_code_is_shown(dump: Dump) -> None:
    narrow = {"dtype": torch.bfloat16}
    found = diff_dumps(
        dump("a", given=narrow, target="h100"), dump("b", given=narrow, target="h100", without=["base_two"])
    )
    assert next(row.name for row in found.passes if row.status == "changed") == "base_two"
    assert any("tl.exp2" in row.diff and row.status == "changed" for row in found.kernels)


def test_names_of_values_are_no_difference(dump: Dump) -> None:
    a, b = dump("a", target="h100"), dump("b", target="h100")
    for file in b.glob("*.ir"):
        file.write_text(file.read_text().replace("%add_", "%plus_"))
    assert {row.status for row in diff_dumps(a, b).passes} == {"same"}


def test_a_time_is_shown_and_makes_no_difference(dump: Dump) -> None:
    a, b = dump("a", target="h100"), dump("b", target="h100")
    report = json.loads((b / "report.json").read_text())
    report["kernels"][0]["time_us"] = 3.5
    (b / "report.json").write_text(json.dumps(report))
    found = diff_dumps(a, b)
    assert found.same and [(c.name, c.a, c.b) for c in found.kernels[0].changes] == [("time_us", None, 3.5)]


def test_the_command_prints_and_says_by_its_exit_code(dump: Dump) -> None:
    a, b = str(dump("a", target="h100")), str(dump("b", target="h100", without=["fused"]))
    same = CliRunner().invoke(app, ["diff", a, a])
    assert same.exit_code == 0 and "the same is compiled" in same.stdout
    other = CliRunner().invoke(app, ["diff", a, b])
    assert other.exit_code == 1 and "Passes after which the graphs differ" in " ".join(other.stdout.split())
    data = json.loads(CliRunner().invoke(app, ["diff", a, b, "--json"]).stdout)
    assert data["same"] is False and not misfits(data, "diff")


def test_a_folder_that_is_no_dump_is_refused(tmp_path: Path, dump: Dump) -> None:
    with pytest.raises(OptionError, match="no dump"):
        diff_dumps(tmp_path, tmp_path)
