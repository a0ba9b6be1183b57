"""Writes the tables of models.md from what was measured: ``python docs/make_models.py``, or with ``--check`` only
compares.

``python -m benchmarks.models --device cpu`` and ``--device cuda`` measure, ``python -m benchmarks.census`` counts;
their files lie in ``benchmarks/results``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from marked import main

from benchmarks.census_table import census_section
from benchmarks.models_table import coverage_markdown, extern_markdown, speed_section
from benchmarks.records import CENSUS_RESULTS, MODEL_RESULTS, WHOLE_RESULTS, Record, saved
from benchmarks.whole_table import whole_section
from benchmarks.zoo.architectures import ARCHITECTURES


def _records(*, cpu: bool) -> list[Record]:
    """What was found on the CPU or on a GPU, in the order of the architectures."""
    order = list(ARCHITECTURES)
    found = [r for r in saved(MODEL_RESULTS) if (r["device"] == "CPU") == cpu]
    return sorted(found, key=lambda r: order.index(r["name"]))


PARTS = {
    "models: coverage": lambda: coverage_markdown(_records(cpu=True)),
    "models: externs": lambda: extern_markdown(_records(cpu=True)),
    "models: census": lambda: census_section(saved(CENSUS_RESULTS)),
    "models: whole": lambda: whole_section(saved(WHOLE_RESULTS)),
    "models: speed": lambda: speed_section(_records(cpu=False)),
}

if __name__ == "__main__":
    main(PARTS)
