"""Matrix products beside cuBLAS, none of whose kernels we may choose: ``python -m benchmarks.matmul --device cuda``.

Every product is a process of its own with a time limit, in which the contenders take turns. Products may be prepared
side by side, which is not for contenders that time kernels themselves. The exit status is 1 if one failed, a promise
was broken, or a compiled kernel is not what its schedule asks for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.matmul_table import faults, matmul_markdown
from benchmarks.processes import run_side_by_side
from benchmarks.products import PRODUCTS
from benchmarks.records import MATMUL_RESULTS, save


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    trials = {name: ["benchmarks.matmul_trial", name, asked.device, *asked.contenders] for name in asked.products}
    for name, findings in run_side_by_side(trials, asked.side_by_side, asked.limit):
        title = PRODUCTS[name].title + (", in small" if asked.device == "cpu" else "")
        found.append({"case": name, "title": title, **findings})
        save(found[-1], asked.device, asked.out, "benchmarks.matmul")
    print(matmul_markdown(found))
    sys.exit(any(faults(case) for case in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matmul", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--products", nargs="+", choices=list(PRODUCTS), default=list(PRODUCTS))
    default = ["rooftile", "rooftile-tuned"]
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=default, help="beside cuBLAS")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one product, or for each part of it")
    parser.add_argument("--side-by-side", type=int, default=1, help="how many products prepare at once")
    parser.add_argument("--out", type=Path, default=MATMUL_RESULTS, help="folder for the JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
