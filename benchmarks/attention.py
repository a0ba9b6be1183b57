"""Attention in every spelling beside FlexAttention and cuDNN, and what only memory should bound: ``python -m
benchmarks.attention --device cuda``.

Every case is a process of its own with a time limit, so that one failure loses nothing else. Some cases prepare side by
side (the contenders compile, and their results are checked against float64), then each is measured with nothing beside
it. The exit status is 1 if a case failed, a promise was broken, or a compiled kernel is not what its schedule asks for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention_table import attention_markdown, faults
from benchmarks.attention_trial import ATTENTION_CASES
from benchmarks.processes import Findings, run_side_by_side
from benchmarks.records import ATTENTION_RESULTS, save
from benchmarks.rivals import RIVALS
from benchmarks.variants import LENGTH, VARIANTS

_SMALL = 64  # the length on the CPU
_TOGETHER = 5  # cases that prepare at once; of longer sequences two, since one head's scores in float64 are large


def main() -> None:
    """Measure what was asked for, print the tables, and write the JSON."""
    asked = _arguments()
    length = asked.length or (_SMALL if asked.device == "cpu" else LENGTH)
    names = asked.cases or list(VARIANTS if asked.length not in (None, LENGTH) else ATTENTION_CASES)
    together = asked.side_by_side or (_TOGETHER if length <= LENGTH else 2)
    found = []
    for case in measured(names, asked.device, length, asked.contenders, asked.limit, together):
        found.append(case)
        save(case, asked.device, asked.out, "benchmarks.attention")
    print(attention_markdown(found))
    sys.exit(any(faults(case) for case in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=list(ATTENTION_CASES), help="all, if not said")
    parser.add_argument("--length", type=int, help=f"positions of the attention cases, {LENGTH} if not said")
    parser.add_argument("--contenders", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--limit", type=float, default=120, help="seconds for preparing, and for measuring, one case")
    parser.add_argument("--side-by-side", type=int, help="how many cases prepare at once")
    parser.add_argument("--out", type=Path, default=ATTENTION_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def measured(
    names: Sequence[str], device: str, length: int, contenders: Sequence[str], limit: float, together: int
) -> Iterator[dict[str, Any]]:
    """Each case's findings, as soon as they are there."""
    # A case's few kernels are soon compiled by its own process; pools of workers for each would only stand in the way.
    environment = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    trials = {name: ["benchmarks.attention_trial", name, device, str(length), *contenders] for name in names}
    for name, findings in run_side_by_side(trials, together, limit, environment):
        yield _described(name, device, length, findings)


def _described(name: str, device: str, length: int, findings: Findings) -> dict[str, Any]:
    title = ATTENTION_CASES[name].title + (", in small" if device == "cpu" else "")
    if name not in VARIANTS:
        return {"case": name, "title": title, **findings}
    case = name if length == LENGTH else f"{name}-{length}"
    head_size = VARIANTS[name].sizes(device, length).head_size
    return {"case": case, "title": title, "variant": name, "length": length, "head_size": head_size, **findings}


if __name__ == "__main__":
    main()
