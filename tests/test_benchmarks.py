"""The benchmarks' table, and one trial at a size that costs nothing."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import trial
from benchmarks.cases import CASES
from benchmarks.markdown import between
from benchmarks.table import markdown, section

FOUND = {
    "title": "Llama-8B layer",
    "contenders": {
        "eager": {"ms": 3.7154, "peak_bytes": 2**30, "error": 2e-3, "allowed": 2.2e-3, "kept": True},
        "torch.compile": {"failure": "RuntimeError: no"},
        "rooftile": {
            "ms": 2.5,
            "peak_bytes": 2**20,
            "error": 3e-3,
            "allowed": 2.2e-3,
            "kept": False,
            "cold": {"seconds": 3.21},
            "warm": {"failure": "more than 10 s"},
        },
    },
}


def test_a_table_shows_results_and_failures() -> None:
    lines = markdown([FOUND]).splitlines()
    assert "3.715 ms" in lines[2] and "1024 MiB" in lines[2]
    assert "RuntimeError: no" in lines[3]
    assert "promise broken" in lines[4] and "3.2 s" in lines[4] and "failed: more than 10 s" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_a_case_that_failed_has_a_row() -> None:
    assert "more than 240 s" in markdown([{"title": "GPT-2", "failure": "more than 240 s", "contenders": {}}])


def test_the_readme_is_rewritten_between_its_markers() -> None:
    results = [{"device": "H100", "versions": {"torch": "2"}, "date": "2026-11-23", "command": "c", "cases": [FOUND]}]
    readme = "# Title\n\n<!-- table -->\n\nstale\n\n<!-- /table -->\n\nrest\n"
    once = between(readme, "table", section(results))
    assert "stale" not in once and "H100" in once and once.endswith("<!-- /table -->\n\nrest\n")
    assert between(once, "table", section(results)) == once
    with pytest.raises(ValueError, match="the README has no <!-- table -->"):
        between("# Title", "table", "")


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs_small(name: str) -> None:
    with torch.no_grad():
        found = trial.speed(name, "cpu", ["eager", "rooftile"])
    assert all(result["kept"] and result["ms"] > 0 for result in found["contenders"].values())
    json.dumps(found)
