"""Whole models as they are used: ``python -m benchmarks.whole --device cuda`` times Llama-3.2-1B and four layers of
OLMoE, a prompt and then steps with a static cache, beside eager and ``torch.compile`` with and without CUDA graphs.

Every trial is a process of its own with empty caches. They compile side by side and are timed one at a time, after each
result was checked. ``python docs/make_models.py`` puts the table into docs/models.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.processes import run_side_by_side
from benchmarks.records import WHOLE_RESULTS, save
from benchmarks.whole_table import kernels_text, whole_markdown
from benchmarks.zoo.whole import CASES

# What comes first in a family pays for the cold caches.
_DEFAULT = ("eager", "rooftile-graphs", "torch.compile-graphs", "rooftile", "torch.compile")
_COMPILING = 0.6  # of the limit; a contender that is begun until then is waited for
_AT_ONCE = 3  # trials that compile side by side: each holds the weights in bf16 and in fp32


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    budget = str(_COMPILING * asked.limit)
    trials = {name: ["benchmarks.zoo.whole", name, asked.device, budget, *asked.contenders] for name in asked.cases}
    for name, findings in run_side_by_side(trials, _AT_ONCE, asked.limit, fresh=True):
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


if __name__ == "__main__":
    main()
