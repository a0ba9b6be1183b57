"""The benchmarks' table, and one trial at a size that costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import trial
from benchmarks.blocks import earlier
from benchmarks.blocks_table import blocks_markdown, blocks_section
from benchmarks.cases import CASES
from benchmarks.markdown import between, table
from benchmarks.records import by_machine, save
from benchmarks.whole_table import whole_markdown

FOUND = {
    "title": "Llama-8B layer",
    "weight_bytes": 6e9,
    "copy_bandwidth": 4e12,
    "contenders": {
        "eager": {"ms": 3.7154, "peak_bytes": 2**30, "error": 2e-3, "allowed": 2.2e-3, "kept": True},
        "torch.compile": {"ms": 3.1, "peak_bytes": 2**21, "host_us": 90.2, "kept": True},
        "torch.compile-graphs": {"failure": "RuntimeError: no", "host_us": 50.0},
        "max-autotune": {"ms": 3.0, "peak_bytes": 2**22, "kept": True, "cold": {"seconds": 61.0}},
        "rooftile": {"ms": 2.5, "peak_bytes": 2**20, "host_us": 20.0, "kept": True, "cold": {"seconds": 3.21}},
        "rooftile-tuned": {"ms": 2.2, "kept": True, "cold": {"seconds": 24.5}},
        "rooftile-tuned-graphs": {"ms": 2.0, "kept": True},
    },
}


def test_a_row_sets_the_best_of_each_side_against_the_other() -> None:
    (row,) = blocks_markdown([FOUND]).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == [
        "Llama-8B layer",
        "3.715 ms",
        "default, max-autotune",
        "3.000 ms (max-autotune)",
        "2.500 ms",
        "2.000 ms (tuned-graphs)",
    ]
    assert cells[6:10] == ["1.20", "1.50", "75%", "2 / 1 MiB"]
    assert cells[10:14] == ["90 / 20 us", "50 / - us", "- / 3.2 s", "61.0 / 24.5 s"]
    assert "torch.compile-graphs: RuntimeError: no" in cells[14]


def test_a_whole_model_is_held_against_the_modes_that_its_row_names() -> None:
    found = {"torch.compile-graphs": {"ms": 3.0}, "rooftile-graphs": {"ms": 2.0, "steps": [3, 4]}}
    (row,) = whole_markdown([{"title": "Llama", "contenders": found}]).splitlines()[2:]
    assert row == "| Llama | graphs | 3.000 ms (graphs) | 2.000 ms (graphs) | 1.50 | 7 |"


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert table(("a", "b", "c"), [("1", "", ""), ("", "", "2")]).splitlines()[0] == "| a | c |"
    assert table(("a", "b"), []).splitlines()[0] == "| a | b |"


def test_what_was_measured_last_comes_first() -> None:
    records = [
        {"device": device, "versions": {"torch": "2"}, "date": date, "cases": [device]}
        for device, date in (("H100", "2026-11-28"), ("H200", "2026-11-29"), ("A100", "2026-11-28"))
    ]
    heads = [part for part in by_machine(records, "".join).split("\n\n") if part.startswith("**")]
    assert heads == [f"**{told}** (torch 2):" for told in ("H200, 2026-11-29", "H100, 2026-11-28", "A100, 2026-11-28")]


def test_compile_times_are_added_to_what_was_found_before(tmp_path: Path) -> None:
    save({"case": "swiglu", **FOUND}, "cpu", tmp_path, "benchmarks.blocks")
    known, new = earlier(["swiglu", "gpt"], "cpu", tmp_path)
    assert known["contenders"] == FOUND["contenders"] and new["contenders"] == {}


def test_what_broke_the_promise_is_a_fault_and_no_time() -> None:
    wrong = {"ms": 0.1, "error": 3e-3, "allowed": 2.2e-3, "kept": False}
    (row,) = blocks_markdown([{"title": "x", "contenders": {"rooftile": wrong}}]).splitlines()[2:]
    assert "0.100 ms" not in row and "rooftile: error 3.00e-03, 2.20e-03 allowed" in row


def test_a_case_that_failed_has_a_row() -> None:
    assert "more than 240 s" in blocks_markdown([{"title": "GPT-2", "failure": "more than 240 s", "contenders": {}}])


def test_the_readme_is_rewritten_between_its_markers() -> None:
    results = [{"device": "H100", "versions": {"torch": "2"}, "date": "2026-11-23", "command": "c", "cases": [FOUND]}]
    readme = "# Title\n\n<!-- table -->\n\nstale\n\n<!-- /table -->\n\nrest\n"
    once = between(readme, "table", blocks_section(results))
    assert "From before" in once
    apart = [{**results[0], "cases": [{**FOUND, "host_apart": True}]}]
    assert "From before" not in blocks_section(apart)
    assert "stale" not in once and "H100" in once and once.endswith("<!-- /table -->\n\nrest\n")
    assert between(once, "table", blocks_section(results)) == once
    with pytest.raises(ValueError, match="the page has no <!-- table -->"):
        between("# Title", "table", "")


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs_small(name: str) -> None:
    torch._dynamo.reset()  # which compiles one function only so often
    with torch.no_grad():
        found = trial.speed(name, "cpu", ["eager", "rooftile"], lambda: None)
    assert all(result["kept"] and result["ms"] > 0 for result in found["contenders"].values())
    json.dumps(found)
