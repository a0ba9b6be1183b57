"""One case of ``benchmarks.attention`` in a process of its own: ``python -m benchmarks.attention_trial CASE DEVICE
LENGTH CONTENDER...``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.clock import copy_bandwidth, gpu_milliseconds_in_turns, peak_bytes, replayed_milliseconds
from benchmarks.compiled import compiled_kernels
from benchmarks.memory_bound import MEMORY_BOUND, MemoryBound
from benchmarks.processes import tell, wait_for_turn
from benchmarks.records import accuracy_row, failure_text
from benchmarks.rivals import RIVALS, Call
from benchmarks.variants import VARIANTS, Variant
from benchmarks.workload import Workload
from rooftile.accuracy import promised
from rooftile.checking import reference
from rooftile.config import Config
from rooftile.driver import collecting
from rooftile.report.collect import report_of
from rooftile.runtime.loading import kernel_cache

ATTENTION_CASES: dict[str, Variant | MemoryBound] = {**VARIANTS, **MEMORY_BOUND}
_REPEATS = 30
_KEPT = ("name", "kind", "schedule", "loops", "bytes", "flops", "ops")  # of a report's rows, in the results


@dataclass
class Prepared:
    """A case that waits to be measured: of each contender the calls whose results were right, and what was found."""

    device: str
    work: Workload
    calls: dict[str, dict[str, Call]] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def prepare(case: str, device: str, length: int, contenders: Sequence[str]) -> Prepared:
    """Compile every contender's alternatives, and compare their results with float64."""
    prepared = Prepared(device, ATTENTION_CASES[case].workload(device, length))
    right = _comparison(prepared.work)
    for name in contenders:
        for alternative, make in RIVALS[name](prepared.work).items():
            _try(prepared, name, alternative, make, right)
    if device != "cpu":
        torch.cuda.empty_cache()  # other cases are preparing on the same GPU
    return prepared


Comparison = Callable[[Tensor], dict[str, Any]]


def _comparison(work: Workload) -> Comparison:
    inputs = work.checked_inputs()
    exact, eager = (run(*inputs) for run in (reference(work.model), work.model))
    torch._dynamo.reset()  # which has seen the sizes of what is checked, and must not take them for varying ones

    def compare(result: Tensor) -> dict[str, Any]:
        (accuracy,) = promised([work.checked_result(result)], [eager], [exact])
        return accuracy_row(accuracy)

    return compare


def _try(prepared: Prepared, name: str, alternative: str, make: Callable[[], Call], compare: Comparison) -> None:
    """Make a call and check its first result; one that fails leaves its reason, and nothing to measure."""
    found = prepared.found.setdefault(name, {})
    try:
        call = make()
        with collecting() as compilations:
            result = call(*prepared.work.inputs)
        compared = compare(result)
        if not compared["error"] < found.get("error", 0.0):  # the worst of the alternatives stands for all
            found.update(compared)
        prepared.calls.setdefault(name, {})[alternative] = call
        if compilations:
            rows = report_of(compilations).to_dict()["kernels"]
            prepared.about["kernels"] = [{key: row[key] for key in _KEPT} for row in rows]
            cache = kernel_cache(Config.from_env().cache_dir)
            prepared.about["compiled"] = [asdict(kernel) for kernel in compiled_kernels(compilations, cache)]
    except Exception as error:
        found["failures"] = {**found.get("failures", {}), alternative: failure_text(error)}


def measure(prepared: Prepared) -> dict[str, Any]:
    """The time of every contender's fastest call, its peak memory, and the bandwidth to hold it against."""
    work, device = prepared.work, prepared.device
    found: dict[str, Any] = {**prepared.about, "flops": work.flops, "bytes": work.bytes, "contenders": prepared.found}
    if work.twin is None:
        found["copy_bandwidth"] = copy_bandwidth(device)
    try:
        times = _milliseconds(prepared)
    except Exception as error:
        return found | {"failure": failure_text(error)}
    for name, of_name in times.items():
        best = min(of_name, key=of_name.__getitem__)
        peak = peak_bytes(partial(prepared.calls[name][best], *work.inputs), device)
        prepared.found[name] |= {"ms": of_name[best], "peak_bytes": peak}
        if len(of_name) > 1:
            prepared.found[name] |= {"best": best, "tried": of_name}
    return found


def _milliseconds(prepared: Prepared) -> dict[str, dict[str, float]]:
    """The time of every alternative of every contender, which take turns."""
    work, device = prepared.work, prepared.device
    calls = {(name, alternative): call for name, of in prepared.calls.items() for alternative, call in of.items()}
    if work.twin is not None:
        times = gpu_milliseconds_in_turns([partial(call, *work.inputs) for call in calls.values()], device, _REPEATS)
    else:
        copies = tuple(x.clone() for x in work.inputs)
        pairs = [[partial(call, *work.inputs), partial(call, *copies)] for call in calls.values()]
        times = [replayed_milliseconds(pair, device) for pair in pairs]
    found: dict[str, dict[str, float]] = {}
    for (name, alternative), taken in zip(calls, times, strict=True):
        found.setdefault(name, {})[alternative] = taken
    return found


def main() -> None:
    """Run the case that the command line names."""
    case, device, length, *contenders = sys.argv[1:]
    with torch.no_grad():
        prepared = prepare(case, device, int(length), contenders)
        wait_for_turn()
        tell(measure(prepared))


if __name__ == "__main__":
    main()
