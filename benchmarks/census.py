"""A census of transformers: ``python -m benchmarks.census`` builds every architecture it has from a small
configuration and runs it by eager, in float64 and by Rooftile, in fp32 on the CPU.

Each is a process of its own with a time limit. The findings go into one file for each version of transformers, where
an architecture that is in there already is left out (``--again`` for those that failed, ``--only`` for some of them);
``python docs/make_models.py`` makes a summary in docs/models.md of them.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path
from time import perf_counter

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is loaded, and nobody is asked

import torch
import transformers

import rooftile
from benchmarks.forked import Findings, run_forked
from benchmarks.records import CENSUS_RESULTS, save, saved
from benchmarks.zoo.counted import architectures, count

_SAVED_EVERY = 10


def main() -> None:
    """Count what was asked for and is not in the file yet."""
    asked = _arguments()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity(50)
    _load()
    found = earlier(asked.out)
    left = asked.only or [n for n in architectures() if n not in found or (asked.again and is_left(found[n]))]
    try:
        for number, name in enumerate(left, 1):
            start = perf_counter()
            found[name] = run_forked(count, name, asked.limit)
            found[name]["seconds"] = round(perf_counter() - start, 1)
            print(f"{number} of {len(left)}: {name}: {said(found[name])}", flush=True)
            if number % _SAVED_EVERY == 0:
                _save(found, asked.out)
    finally:
        _save(found, asked.out)


def _load() -> None:
    """Compile something, so that what that loads is there in all trials. In one thread, since forks have but one."""
    torch.set_num_threads(1)
    with torch.no_grad():
        rooftile.compile(torch.nn.Linear(16, 16))(torch.ones(16, 16))
    torch._dynamo.reset()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.census", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TYPE", help="these model types, counted already or not")
    parser.add_argument("--again", action="store_true", help="also those that were not right or not built")
    parser.add_argument("--limit", type=float, default=90, help="seconds for one architecture")
    parser.add_argument("--out", type=Path, default=CENSUS_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def _case() -> str:
    return f"transformers-{transformers.__version__}"


def earlier(folder: Path) -> dict[str, Findings]:
    """What was found before with this version of transformers."""
    records = [r for r in saved(folder) if r["name"] == _case()]
    return dict(records[0]["cases"][0]["architectures"]) if records else {}


def _save(found: dict[str, Findings], folder: Path) -> None:
    case = {"case": _case(), "known": len(architectures()), "architectures": dict(sorted(found.items()))}
    save(case, "cpu", folder, "benchmarks.census")


def is_left(findings: Findings) -> bool:
    """Whether it was not built, failed or was not right."""
    return "failure" in findings or not findings.get("kept")


def said(findings: Findings) -> str:
    """One line for whoever watches."""
    if "failure" in findings:
        return f"{findings.get('stage')}: {findings['failure']}"[:300]
    calls = sum(e["count"] for e in findings["externs"])
    right = "right" if findings["kept"] else "NOT RIGHT"
    return (
        f"{right}, error {findings['error']:.1e} of {findings['allowed']:.1e} ({findings['against']}), "
        f"{findings['kernels']} kernels, {calls} ATen calls, {findings['graphs']} graphs, "
        f"{findings['uncompiled']} uncompiled, {findings['compile']} of {findings['seconds']} s"
    )


if __name__ == "__main__":
    main()
