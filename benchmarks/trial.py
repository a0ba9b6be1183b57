"""One trial in a process of its own, its findings printed as JSON: ``python -m benchmarks.trial speed|compile CASE
DEVICE CONTENDER...``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import rooftile
from benchmarks.cases import CASES
from benchmarks.clock import copy_bandwidth, gpu_milliseconds_in_turns, host_microseconds, peak_bytes, seconds
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import tell, wait_for_turn
from benchmarks.records import accuracy_row, failure_text
from rooftile.accuracy import promised
from rooftile.checking import reference
from rooftile.config import Config
from rooftile.driver import collecting
from rooftile.runtime.loading import kernel_cache

# All contenders compile the same code, of which Dynamo keeps so many versions; a further one would be eager, unnoticed.
_VERSIONS = {"recompile_limit": 64, "fail_on_recompile_limit_hit": True}


def speed(
    case: str, device: str, contenders: Sequence[str], prepared: Callable[[], None] = wait_for_turn
) -> dict[str, Any]:
    """Every contender's error, GPU time, host time and peak memory, in one process where they take turns; our report.

    ``prepared`` is called before anything is timed.
    """
    model, inputs = CASES[case].built(device)
    exact, eager = (_tensors(run(*inputs)) for run in (reference(model), model))
    found: dict[str, Any] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for name in contenders:
        try:
            run = partial(CONTENDERS[name](model), *inputs)
            (accuracy,) = promised(_tensors(run()), eager, exact)
            found[name] = accuracy_row(accuracy)
            calls[name] = run
        except Exception as error:
            found[name] = {"failure": failure_text(error)}
    report = rooftile.explain(model, *inputs).to_dict()
    prepared()
    for (name, run), taken in zip(calls.items(), gpu_milliseconds_in_turns(list(calls.values()), device), strict=True):
        host, peak = host_microseconds(run, device), peak_bytes(run, device)
        found[name] |= {"ms": taken, "host_us": host, "peak_bytes": peak}
    weights = _weights(model, device) if CASES[case].weights_bound else {}
    return {"contenders": found, "report": report, "host_apart": True, **weights}


def _weights(model: nn.Module, device: str) -> dict[str, float]:
    """What a weights-bound case is held against."""
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return {"weight_bytes": size, "copy_bandwidth": copy_bandwidth(device)}


def compile_time(case: str, device: str, contenders: Sequence[str]) -> dict[str, Any]:
    """The first call of the one contender: all of it, and what of it Rooftile spent on what."""
    (name,) = contenders
    model, inputs = CASES[case].built(device)
    model(*inputs)  # CUDA, cuBLAS and the allocator have started
    run = CONTENDERS[name](model)
    with collecting() as compilations:
        spent = seconds(lambda: run(*inputs), device)
    parts = {part: sum(c.seconds.get(part, 0.0) for c in compilations) for part in ("passes", "emit", "plan", "build")}
    stats = asdict(kernel_cache(Config.from_env().cache_dir).stats())
    return {"seconds": spent, **({"parts": parts, "kernels": stats} if name == "rooftile" else {})}


def _tensors(results: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(results) if isinstance(x, torch.Tensor)]


TRIALS = {"speed": speed, "compile": compile_time}


def main() -> None:
    """Run the trial that the command line names."""
    kind, case, device, *contenders = sys.argv[1:]
    with torch.no_grad(), torch._dynamo.config.patch(_VERSIONS):
        tell(TRIALS[kind](case, device, contenders))


if __name__ == "__main__":
    main()
