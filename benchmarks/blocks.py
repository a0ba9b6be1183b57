"""Rooftile beside eager and ``torch.compile`` on transformer blocks: ``python -m benchmarks.blocks --device cuda``.

Every trial is a process of its own with a time limit, so that one failure loses nothing else; the contenders of a
case are timed together in one process, each after its result was checked against float64. Cases may be prepared side by
side, which is not for contenders that time kernels themselves. Compile times are first calls in new processes: cold
with empty caches, then warm.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.blocks_table import blocks_markdown
from benchmarks.cases import CASES
from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.processes import empty_caches, run, run_side_by_side
from benchmarks.records import BLOCK_RESULTS, device_name, save, saved


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    if asked.only_compile:
        cases = earlier(asked.cases, asked.device, asked.out)
    else:
        cases = speeds(asked.cases, asked.device, asked.contenders, asked.limit, asked.side_by_side)
    for case in cases:
        found.append(case)
        if asked.only_compile or not asked.no_compile:
            _add_compile_times(case, asked.device, asked.contenders, asked.limit)
        # Each in a file of its own, so that a later one cannot lose it.
        save(case, asked.device, asked.out, "benchmarks.blocks")
    print(blocks_markdown(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(DEFAULT))
    parser.add_argument("--limit", type=float, default=240, help="seconds for one trial, or for each part of it")
    parser.add_argument("--side-by-side", type=int, default=1, help="how many cases prepare at once")
    compiling = parser.add_mutually_exclusive_group()
    compiling.add_argument("--no-compile", action="store_true", help="leave compile times out")
    compiling.add_argument("--only-compile", action="store_true", help="add compile times to an earlier run's results")
    parser.add_argument("--out", type=Path, default=BLOCK_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def speeds(
    cases: Sequence[str], device: str, contenders: Sequence[str], limit: float, together: int = 1
) -> Iterator[dict[str, Any]]:
    """The findings of each case; a trial that fails leaves its reason as ``failure``."""
    trials = {name: ["benchmarks.trial", "speed", name, device, *contenders] for name in cases}
    for name, findings in run_side_by_side(trials, together, limit):
        title = CASES[name].title + (", in small" if device == "cpu" else "")
        yield {"case": name, "title": title, "contenders": {}, **findings}


def earlier(cases: Sequence[str], device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What an earlier run found out about each case on this device, to be added to."""
    kept = {record["name"]: record["cases"][0] for record in saved(folder) if record["device"] == device_name(device)}
    for name in cases:
        yield kept.get(name, {"case": name, "title": CASES[name].title, "contenders": {}})


def _add_compile_times(case: dict[str, Any], device: str, contenders: Sequence[str], limit: float) -> None:
    for name in contenders:
        if name == "eager":
            continue
        with empty_caches() as fresh:
            for state in ("cold", "warm"):
                print(f"{case['case']}: compiling with {name}, {state}", flush=True)
                result = run(["benchmarks.trial", "compile", case["case"], device, name], limit, fresh)
                case["contenders"].setdefault(name, {})[state] = result


if __name__ == "__main__":
    main()
