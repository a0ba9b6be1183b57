"""Rooftile beside eager and ``torch.compile`` on transformer blocks: ``python -m benchmarks.blocks --device cuda``.

Every trial is a process of its own with a time limit, so that one failure loses nothing else; the contenders of a
case are timed together in one process, each after its result was checked against float64. Compile times are first
calls in new processes: cold with empty caches, then warm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.blocks_table import blocks_markdown
from benchmarks.cases import CASES
from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.processes import run
from benchmarks.records import BLOCK_RESULTS, save


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    for name in asked.cases:
        found.append(measure(name, asked.device, asked.contenders, asked.limit, compile_times=not asked.no_compile))
        # Each in a file of its own, so that a later one cannot lose it.
        save(found[-1], asked.device, asked.out, "benchmarks.blocks")
    print(blocks_markdown(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(DEFAULT))
    parser.add_argument("--limit", type=float, default=240, help="seconds for one trial")
    parser.add_argument("--no-compile", action="store_true", help="leave compile times out")
    parser.add_argument("--out", type=Path, default=BLOCK_RESULTS, help="folder for the JSON")
    return parser.parse_args()


def measure(
    case: str, device: str, contenders: Sequence[str], limit: float, *, compile_times: bool = True
) -> dict[str, Any]:
    """All trials of one case; a trial that fails leaves its reason as ``failure``."""
    print(f"{case}: speed", flush=True)
    title = CASES[case].title + (", in small" if device == "cpu" else "")
    found = {"case": case, "title": title, **run(["benchmarks.trial", "speed", case, device, *contenders], limit)}
    found.setdefault("contenders", {})
    for name in contenders if compile_times else ():
        if name == "eager":
            continue
        with tempfile.TemporaryDirectory() as caches:
            fresh = {
                "ROOFTILE_CACHE_DIR": f"{caches}/rooftile",
                "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
                "TRITON_CACHE_DIR": f"{caches}/triton",
            }
            for state in ("cold", "warm"):
                print(f"{case}: compiling with {name}, {state}", flush=True)
                result = run(["benchmarks.trial", "compile", case, device, name], limit, fresh)
                found["contenders"].setdefault(name, {})[state] = result
    return found


if __name__ == "__main__":
    main()
