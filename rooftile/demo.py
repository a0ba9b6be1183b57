"""``rooftile demo``: a textbook block is compiled, checked against float64 beside eager, and explained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from rooftile.accuracy import Accuracy
from rooftile.api import compile
from rooftile.checking import check
from rooftile.config import CompileOptions
from rooftile.dump import forget_dumps
from rooftile.report.collect import report_of
from rooftile.report.data import Report
from rooftile.report.explaining import compile_afresh
from rooftile.runtime.devices import default_device
from rooftile.textbook import ON_CPU, ON_GPU, Sizes, block_and_input


@dataclass(frozen=True)
class Demonstration:
    """What the demo found out; times are milliseconds of a call, None on the CPU, where they say nothing."""

    sizes: Sizes
    report: Report
    accuracy: Accuracy
    dump: Path
    compile_seconds: float
    ours_ms: float | None
    eager_ms: float | None


def demonstrate(dump: Path | None = None, device: torch.device | None = None) -> Demonstration:
    """Compile the block with dumps, check it, and time it where there is a GPU."""
    device = device or default_device()
    sizes = ON_GPU if device.type == "cuda" else ON_CPU
    folder = dump or Path(tempfile.mkdtemp(prefix="rooftile-demo-"))
    forget_dumps(folder)
    block, x = block_and_input(sizes, device)
    start = perf_counter()
    with torch.no_grad():
        compilations, graphs = compile_afresh(block, (x,), {}, CompileOptions(dump=folder))
    spent = perf_counter() - start
    fast = compile(block)
    (accuracy,) = check(fast, block, (x,))
    timed = device.type == "cuda"
    return Demonstration(
        sizes,
        report_of(compilations, uncompiled=graphs - len(compilations)),
        accuracy,
        folder,
        spent,
        _milliseconds(lambda: fast(x)) if timed else None,
        _milliseconds(lambda: block(x)) if timed else None,
    )


def _milliseconds(call: Callable[[], object], repeats: int = 20) -> float:
    with torch.no_grad():
        for _ in range(3):
            call()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
    return float(start.elapsed_time(end)) / repeats
