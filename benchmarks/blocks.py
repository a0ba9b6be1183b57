"""Rooftile beside eager and ``torch.compile`` on transformer blocks: ``python -m benchmarks.blocks --device cuda``.

Every trial is a process of its own with a time limit, so that one failure loses nothing else; the contenders of a
case are timed together in one process, each after its result was checked against float64. Compile times are first
calls in new processes: cold with empty caches, then warm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CASES
from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.table import markdown
from benchmarks.trial import MARK
from rooftile.report.collect import versions

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure what was asked for, print the table, and write the JSON."""
    asked = _arguments()
    found = []
    for name in asked.cases:
        found.append(measure(name, asked.device, asked.contenders, asked.limit, compile_times=not asked.no_compile))
        _save(found[-1], asked)  # each in a file of its own, so that a later one cannot lose it
    print(markdown(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(DEFAULT))
    parser.add_argument("--limit", type=float, default=240, help="seconds for one trial")
    parser.add_argument("--no-compile", action="store_true", help="leave compile times out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def measure(
    case: str, device: str, contenders: Sequence[str], limit: float, *, compile_times: bool = True
) -> dict[str, Any]:
    """All trials of one case; a trial that fails leaves its reason as ``failure``."""
    print(f"{case}: speed", flush=True)
    title = CASES[case].title + (", in small" if device == "cpu" else "")
    found = {"case": case, "title": title, **_trial("speed", case, device, contenders, limit, {})}
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
                result = _trial("compile", case, device, [name], limit, fresh)
                found["contenders"].setdefault(name, {})[state] = result
    return found


def _trial(
    kind: str, case: str, device: str, contenders: Sequence[str], limit: float, environment: Mapping[str, str]
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.trial", kind, case, device, *contenders]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"more than {limit:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        print(done.stderr[-4000:], file=sys.stderr)
        return {"failure": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return result


def _save(case: Mapping[str, Any], asked: argparse.Namespace) -> None:
    device = torch.cuda.get_device_name() if asked.device != "cpu" else "CPU"
    content = {
        "name": case["case"],
        "device": device,
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.blocks {' '.join(sys.argv[1:])}".strip(),
        "cases": [case],
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"{case['case']}-{'-'.join(device.lower().split())}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
