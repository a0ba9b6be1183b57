"""`rooftile explain`: the tree, one value, one line, graphs on disk, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.errors import OptionError

ROOT = Path(__file__).parent.parent.parent
TEXTBOOK = str(ROOT / "tests" / "report" / "attention_to_explain.py")
Run = Callable[..., str]


@pytest.fixture
def explain() -> Run:
    def run(*arguments: str, model: str = f"{TEXTBOOK}:model") -> str:
        result = CliRunner().invoke(app, ["explain", model, *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return " ".join(result.stdout.split())

    return run


def test_the_model_is_a_tree_with_the_kernels_of_each_line(explain: Run) -> None:
    shown = explain()
    assert "model 3 kernels" in shown
    assert "attention_to_explain.py:17 scores = q @ k.transpose(-1, -2) / 4" in shown
    assert "query 1 kernel" in shown
    assert "Furthest from its floor, by the model" in shown


def test_derivations_are_shown_on_request(explain: Run) -> None:
    assert "2 derivations" not in explain() and "1 derivation: --derivations" in explain()
    shown = explain("--derivations")
    assert "when %max changes" in shown and "--derivations" not in shown


def test_a_value_that_stays_on_chip(explain: Run) -> None:
    shown = explain("--why", "%max")
    assert "never reaches memory: %max stays on chip" in shown
    assert "attention_to_explain.py:18" in shown and "reduce.max" in shown


def test_a_value_that_is_cut_says_why_and_what_would_change_it(explain: Run) -> None:
    (row,) = json.loads(explain("--why", "contract", "--json"))
    assert row["verdict"].startswith("it is stored, so that what makes it and what reads it did not fuse: ")
    assert row["stored_by"] == ["query_contract"] and row["read_by"] == ["contract_max_sum", "exp"]
    (cut,) = [d for d in row["decisions"] if d["decision"] == "cut"]
    assert cut["change"]


def test_an_input_and_a_result(explain: Run) -> None:
    (row,) = json.loads(explain("--why", "x", "--json"))
    assert row["verdict"] == "it is an input of the graph, or a weight"


def test_an_unknown_value_has_a_near_one(explain: Run) -> None:
    with pytest.raises(OptionError, match="no value is called 'maxx'") as error:
        explain("--why", "maxx")
    assert "'max'" in str(error.value)


def test_a_line(explain: Run) -> None:
    shown = explain("--line", "attention_to_explain.py:18")
    assert "return scores.softmax(-1) @ v, q.exp()" in shown
    assert "reduce.max" in shown and "query_contract" not in shown
    found = json.loads(explain("--line", f"{TEXTBOOK}:18", "--json"))
    assert {line["source"] for kernel in found["kernels"] for line in kernel["lines"]} == {f"{TEXTBOOK}:18"}
    with pytest.raises(OptionError, match="nothing was compiled from the line"):
        explain("--line", "attention_to_explain.py:3")


def test_a_page_is_written(explain: Run, tmp_path: Path) -> None:
    explain("--html", str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_graphs_on_disk_are_explained(explain: Run, tmp_path: Path) -> None:
    model = f"{TEXTBOOK}:model"
    assert CliRunner().invoke(app, ["dump", model, "--out", str(tmp_path)], catch_exceptions=False).exit_code == 0
    for path in (tmp_path, tmp_path / "00-import.ir"):
        again = json.loads(explain("--json", model=str(path)))
        assert [kernel["name"] for kernel in again["kernels"]] == ["query_contract", "contract_max_sum", "exp"]
        assert "contract" in json.loads(explain("--why", "contract", "--json", model=str(path)))[0]["made"][0]["op"]
    with pytest.raises(OptionError, match=r"no 00-import\.ir"):
        explain(model=str(tmp_path / "kernels"))


def test_resources_are_found_without_a_gpu(explain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(tmp_path))
    found = json.loads(explain("--target", "h100", "--resources", "--json"))
    assert all(0 < kernel["resources"]["registers"] <= 255 for kernel in found["kernels"])
    with pytest.raises(OptionError, match="the CPU interprets kernels"):
        explain("--resources")
