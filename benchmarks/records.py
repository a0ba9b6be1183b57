"""What was measured, as files: one for each case and device, with the versions and the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rooftile.accuracy import Accuracy
from rooftile.report.collect import versions

RESULTS = Path(__file__).parent / "results"
BLOCK_RESULTS = RESULTS / "blocks"
MATMUL_RESULTS = RESULTS / "matmul"
ATTENTION_RESULTS = RESULTS / "attention"
COMPILE_RESULTS = RESULTS / "compile_time"
MODEL_RESULTS = RESULTS / "models"
WHOLE_RESULTS = RESULTS / "whole"
CENSUS_RESULTS = RESULTS / "census"

Record = dict[str, Any]


def save(case: Mapping[str, Any], device: str, folder: Path, module: str) -> Path:
    """Write what ``module``'s command line found about a case, and print where."""
    name = device_name(device)
    content = {
        "name": case["case"],
        "device": name,
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m {module} {' '.join(sys.argv[1:])}".strip(),
        "cases": [case],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case['case']}-{'-'.join(name.lower().split())}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path, flush=True)
    return path


def device_name(device: str) -> str:
    """What results on this device are filed under."""
    return torch.cuda.get_device_name() if device != "cpu" else "CPU"


def saved(folder: Path) -> list[Record]:
    """Every record in ``folder``, by the name of its file."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def accuracy_row(accuracy: Accuracy) -> dict[str, Any]:
    """How far a contender's result is from the truth, and whether that is allowed."""
    return {"error": accuracy.ours, "allowed": accuracy.allowed, "kept": accuracy.kept}


def failure_text(error: Exception) -> str:
    """Why a contender has no result."""
    return f"{type(error).__name__}: {error}"[:500]


def heading(record: Record, of: str | None = None) -> str:
    """What stands above a table: on which device it was measured (or ``of`` what it is), on which day, and with which
    versions."""
    told = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"**{of or record['device']}, {record['date']}** ({told})"


def by_machine(records: Sequence[Record], markdown: Callable[[list[Any]], str]) -> str:
    """What ``markdown`` makes of the cases of each device, set of versions and day, under these, the latest first."""
    groups: dict[str, list[Any]] = {}
    for record in sorted(records, key=lambda r: str(r["date"]), reverse=True):
        groups.setdefault(heading(record), []).extend(record["cases"])
    return "\n\n".join(f"{above}:\n\n{markdown(cases)}" for above, cases in groups.items())
