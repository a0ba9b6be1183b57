"""What compiling whole models takes, by the number of their layers: ``python -m benchmarks.compile_time``.

Each trial is a process of its own with nothing in any cache. What is counted is the processor's time, which other work
on the machine disturbs less than it does the time that passes; no GPU is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.processes import empty_caches, run
from benchmarks.records import COMPILE_RESULTS, Record, by_machine, save
from benchmarks.zoo.whole import CASES

LAYERS = (4, 16, 32)
OURS = ("import", "passes, text, plan", "kernels")  # parts that are not torch's capture
_DEFAULT = ("llama-1b-decode-1", "llama-1b-prefill", "olmoe-decode-16")
_COLUMNS = ("model", "layers", "Dynamo", "trace", *OURS[:2], "launches", "different kernels", "ours", "of the first")


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    cases = []
    for name in asked.cases:
        trials = []
        for layers in asked.layers:
            with empty_caches() as variables:
                trials.append(run(["benchmarks.compile_trial", name, str(layers)], asked.limit, variables))
            print(f"{name}, {layers} layers: {trials[-1]}", flush=True)
        cases.append({"case": name, "title": CASES[name].title, "trials": trials})
        save(cases[-1], "cpu", asked.out, "benchmarks.compile_time")
    print(compile_markdown(cases))


def compile_markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """The table of cases, in seconds of the processor: a row for each number of layers, whose last column is our part
    over that of the first."""
    return table(_COLUMNS, [row for case in cases for row in _rows(case)])


def compile_section(records: Sequence[Record]) -> str:
    """The tables, each under the versions that it was measured with."""
    return by_machine(records, compile_markdown)


def _rows(case: Mapping[str, Any]) -> list[tuple[str, ...]]:
    title, rows, first = case["title"].replace(", 4 layers", ""), list[tuple[str, ...]](), None
    for trial in case["trials"]:
        if "failure" in trial:
            rows.append((title, trial["failure"], *[""] * (len(_COLUMNS) - 2)))
            continue
        seconds = trial["seconds"]
        ours = sum(seconds[part] for part in OURS)
        first = first or ours
        parts = (f"{seconds[part]:.2f} s" for part in ("dynamo", "trace", *OURS[:2]))
        built = f"{trial['kernels']} in {seconds['kernels']:.2f} s"
        rows.append(
            (title, str(trial["layers"]), *parts, str(trial["launches"]), built, f"{ours:.2f} s", f"{ours / first:.2f}")
        )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(_DEFAULT))
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS))
    parser.add_argument("--limit", type=float, default=600, help="seconds for a trial")
    parser.add_argument("--out", type=Path, default=COMPILE_RESULTS, help="folder for the JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
