"""Whole models as they are used: ``python -m benchmarks.whole --device cuda`` times Llama-3.2-1B and four layers of
OLMoE, a prompt and then steps with a static cache, beside eager and ``torch.compile`` with and without CUDA graphs.

Every trial is a process of its own with empty caches. They compile side by side and are timed one at a time, after each
result was checked. ``python docs/make_models.py`` puts the table into docs/models.md.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.processes import run_in_turn
from benchmarks.records import RESULTS, save
from benchmarks.whole_table import kernels_text, whole_markdown
from benchmarks.zoo.whole import CASES

WHOLE_RESULTS = RESULTS / "whole"
# What comes first in a family pays for the cold caches.
_DEFAULT = ("eager", "rooftile-graphs", "torch.compile-graphs", "rooftile", "torch.compile")
_COMPILING = 0.6  # of the limit; a contender that is begun until then is waited for
_AT_ONCE = 3  # trials that compile side by side: each holds the weights in bf16 and in fp32


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    for start in range(0, len(asked.cases), _AT_ONCE):
        names = asked.cases[start : start + _AT_ONCE]
        with ExitStack() as stack:
            caches = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in names]
            environments = [_fresh(folder) for folder in caches]
            budget = str(_COMPILING * asked.limit)
            trials = [["benchmarks.zoo.whole", name, asked.device, budget, *asked.contenders] for name in names]
            for name, findings in zip(names, run_in_turn(trials, asked.limit, environments), strict=True):
                case = {"case": name, "title": CASES[name].title, "contenders": {}, **findings}
                found.append(case)
                save(case, asked.device, asked.out, "benchmarks.whole")
                print(kernels_text(case), flush=True)
    print(whole_markdown(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(_DEFAULT))
    parser.add_argument("--limit", type=float, default=240, help="seconds for each part of a trial")
    parser.add_argument("--out", type=Path, default=WHOLE_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def _fresh(folder: str) -> dict[str, str]:
    return {
        "ROOFTILE_CACHE_DIR": f"{folder}/rooftile",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        "TRITON_CACHE_DIR": f"{folder}/triton",
    }


if __name__ == "__main__":
    main()
