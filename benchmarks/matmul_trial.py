"""One matrix product in a process of its own: ``python -m benchmarks.matmul_trial PRODUCT DEVICE CONTENDER...``.

Every contender's call is one CUDA graph, so that none is charged for its host's time; they take turns, each with a cold
L2 cache, since a GPU that multiplies all the time slows down. Eager is the library, cuBLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.clock import as_graph
from benchmarks.compiled import compiled_kernels
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import tell, wait_for_turn
from benchmarks.products import PRODUCTS
from benchmarks.records import accuracy_row, failure_text
from rooftile.accuracy import promised
from rooftile.checking import reference
from rooftile.config import Config
from rooftile.driver import collecting
from rooftile.report.collect import report_of
from rooftile.runtime.devices import target_of
from rooftile.runtime.loading import kernel_cache
from rooftile.runtime.tuning.clocks import clock_for

REPEATS = 40


def measure(
    name: str, device: str, contenders: Sequence[str], prepared: Callable[[], None] = wait_for_turn
) -> dict[str, Any]:
    """Each contender's error, median time, and speed as a share of eager's: the median over the turns.

    ``prepared`` is called before anything is timed.
    """
    work = PRODUCTS[name].workload(device)
    exact, eager = (run(*work.inputs) for run in (reference(work.model), work.model))
    found: dict[str, Any] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for contender in dict.fromkeys(("eager", *contenders)):
        torch._dynamo.reset()
        found[contender] = {}
        try:
            run = CONTENDERS[contender](work.model)
            with collecting() as compilations:
                (accuracy,) = promised([run(*work.inputs)], [eager], [exact])
            found[contender] = accuracy_row(accuracy)
            if compilations:
                cache = kernel_cache(Config.from_env().cache_dir)
                found[contender]["kernels"] = [_kernel(row) for row in report_of(compilations).to_dict()["kernels"]]
                found[contender]["compiled"] = [asdict(kernel) for kernel in compiled_kernels(compilations, cache)]
            calls[contender] = _replayed(lambda run=run: run(*work.inputs), device)
        except Exception as error:
            found[contender]["failure"] = failure_text(error)
    prepared()
    _time(calls, device, found)
    return {"flops": work.flops, "bytes": work.bytes, "contenders": found}


def _kernel(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("name", "kind", "schedule")}


def _replayed(call: Callable[[], Tensor], device: str) -> Callable[[], Any]:
    """The call as a graph; as it is on the CPU."""
    if device == "cpu":
        return call
    graph, results = as_graph([call])
    replay = graph.replay
    return lambda: (replay(), results)


def _time(calls: dict[str, Callable[[], Any]], device: str, found: dict[str, Any]) -> None:
    where = torch.device(device, torch.cuda.current_device()) if device != "cpu" else torch.device("cpu")
    clock = clock_for(target_of(where), where)
    for repeats in (3, REPEATS):  # the first ones only warm up
        times = dict(zip(calls, clock.microseconds(list(calls.values()), repeats), strict=True))
    for name, taken in times.items():
        shares = [eager / ours for eager, ours in zip(times["eager"], taken, strict=True)]
        found[name] |= {"us": median(taken), "of_library": median(shares)}


def main() -> None:
    """Run the trial that the command line names."""
    name, device, *contenders = sys.argv[1:]
    with torch.no_grad():
        tell(measure(name, device, contenders))


if __name__ == "__main__":
    main()
