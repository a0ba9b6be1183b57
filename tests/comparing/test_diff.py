"""``rooftile diff``: nothing where nothing differs, and what differs where something does."""

from __future__ import annotations

import json
import shutil
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
from rooftile.textbook import ON_GPU, block_and_input
from tests.models import BLOCKS
from tests.schemas import misfits

Dump = Callable[..., Path]


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    """Dumps by what they are of, so that each is made once."""
    return {}


@pytest.fixture
def dump(made: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    def write(name: str, given: dict[str, Any] | None = None, *, afresh: bool = False, **options: Any) -> Path:
        key = f"{given} {options}"
        if afresh or key not in made:
            made[key] = tmp_path_factory.mktemp("made")
            compiled(made[key], given or {}, options)
        return Path(shutil.copytree(made[key], tmp_path / name))

    return write


def compiled(folder: Path, given: dict[str, Any], options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    block, inputs = BLOCKS["textbook"](device="meta", **given)
    with torch.no_grad():
        compile_afresh(block, inputs, {}, CompileOptions.from_user(options={"dump": folder, **options}))


def test_two_dumps_of_the_same_are_the_same(dump: Dump) -> None:
    found = diff_dumps(dump("a", target="h100"), dump("b", target="h100", afresh=True))
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


def test_the_schedules_of_what_shares_a_launch_are_compared(tmp_path: Path) -> None:
    def dumped(name: str, target: str) -> Path:
        torch._dynamo.reset()
        block, x = block_and_input(ON_GPU, torch.device("meta"))
        with torch.no_grad():
            options = CompileOptions.from_user(options={"dump": tmp_path / name, "target": target})
            compile_afresh(block, (x,), {}, options)
        return tmp_path / name

    a, b = dumped("a", "h100"), tmp_path / "b"
    shutil.copytree(a, b)
    report = json.loads((b / "report.json").read_text())
    (row,) = [each for each in report["kernels"] if each["members"]]
    row["members"][1]["schedule"]["axes"][0]["tile"] = 7
    report["packed"][0]["bytes"] += 1
    (b / "report.json").write_text(json.dumps(report))
    changed = {each.name: each for each in diff_dumps(a, b).kernels if each.status == "changed"}
    assert set(changed) == {row["name"], report["packed"][0]["name"]}
    (change,) = changed[row["name"]].changes
    assert change.name == f"{row['members'][1]['name']}: schedule axes"


def test_a_folder_that_is_no_dump_is_refused(tmp_path: Path, dump: Dump) -> None:
    with pytest.raises(OptionError, match="no dump"):
        diff_dumps(tmp_path, tmp_path)
