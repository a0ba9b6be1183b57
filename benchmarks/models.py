"""Whole models of transformers: ``python -m benchmarks.models --device cpu`` for what is compiled and what is left to
ATen, ``--device cuda`` for the speed of two layers of full size.

Every trial is a process of its own with a time limit. ``python docs/make_models.py`` makes docs/models.md of the
results.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.processes import empty_caches, run, run_side_by_side
from benchmarks.records import MODEL_RESULTS, save, saved
from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.trial import CASES, has_case


def main() -> None:
    """Measure what was asked for and write the JSON, one file for each architecture."""
    asked = _arguments()
    if asked.device == "cpu":
        for name in asked.models:
            runs = {**_earlier(name, asked.out), **covered(name, asked.cases, asked.limit)}
            save({"case": name, "runs": runs}, "cpu", asked.out, "benchmarks.models")
        return
    trials = {name: ["benchmarks.zoo.trial", "speed", name, *asked.contenders] for name in asked.models}
    with empty_caches() as fresh:
        for name, found in run_side_by_side(trials, asked.side_by_side, asked.limit, fresh):
            title = ARCHITECTURES[name].like
            save({"case": name, "title": title, **found}, "cuda", asked.out, "benchmarks.models")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="what is run on the CPU")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(DEFAULT))
    parser.add_argument("--limit", type=float, default=150, help="seconds for one trial, or for each part of it")
    parser.add_argument("--side-by-side", type=int, default=6, help="how many models prepare at once on the GPU")
    parser.add_argument("--out", type=Path, default=MODEL_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def _earlier(name: str, folder: Path) -> dict[str, Any]:
    """The cases that an earlier run found, of which some may be asked for again."""
    records = [r for r in saved(folder) if r["name"] == name and r["device"] == "CPU"]
    return dict(records[0]["cases"][0]["runs"]) if records else {}


def covered(name: str, cases: Sequence[str], limit: float) -> dict[str, Any]:
    """The findings of each case that makes sense for the architecture, or its ``failure``."""
    found: dict[str, Any] = {}
    for case in cases:
        if has_case(ARCHITECTURES[name], case):
            print(f"{name}: {case}", flush=True)
            found[case] = run(["benchmarks.zoo.trial", "coverage", name, case], limit)
    return found


if __name__ == "__main__":
    main()
