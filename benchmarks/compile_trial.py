"""How much of the processor compiling a whole model takes: ``python -m benchmarks.compile_trial CASE LAYERS`` is one
trial, in a process of its own, so that nothing is known from before.

Weights are on the meta device, and kernels are compiled for an H100, which takes no GPU.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import fx, nn

from benchmarks.processes import Findings, tell
from benchmarks.zoo.whole import CASES, WholeCase
from rooftile.collection import no_collections
from rooftile.config import CompileOptions, Config
from rooftile.driver import build_program, collecting
from rooftile.frontend.dynamo import capture_dynamo
from rooftile.frontend.importer import import_captured
from rooftile.runtime.cache import KernelCache
from rooftile.runtime.cache_key import cache_key
from rooftile.target import H100

_T = TypeVar("_T")
_META = torch.device("meta")


class Parts:
    """The processor's seconds, those of child processes included, that each part of the first call takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.launches = self.kernels = 0

    def __call__(self, part: str, work: Callable[[], _T]) -> _T:
        before = processor_seconds()
        result = work()
        self.seconds[part] = self.seconds.get(part, 0.0) + processor_seconds() - before
        return result

    def backend(self, module: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """What ``rooftile.compile`` does with a graph, part by part, and its kernels compiled as if there were a
        GPU."""
        options = CompileOptions(target=H100.name)
        with no_collections(), collecting() as found:
            captured = self("trace", lambda: capture_dynamo(module, inputs))
            graph = self("import", lambda: import_captured(captured).graph)
            self("passes, text, plan", lambda: build_program(graph, options, _META))
            kernels = [kernel for each in found for kernel in each.kernels.values()]
            distinct = {cache_key(kernel, H100.arch): kernel for kernel in kernels}
            with tempfile.TemporaryDirectory() as folder:
                cache, workers = KernelCache(Path(folder)), Config.from_env().compile_workers
                self("kernels", lambda: cache.get_or_build_all(list(distinct.values()), H100, workers))
        self.launches += len(kernels)
        self.kernels += len(distinct)
        return module.forward


def processor_seconds() -> float:
    """User's and system's, of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def trial(case: WholeCase, layers: int) -> Findings:
    """The parts of compiling ``case`` with so many layers; ``dynamo`` is what torch takes before it hands us a
    graph, and for its guards."""
    model, make = replace(case, changes={**case.changes, "num_hidden_layers": layers}).call("meta")
    parts = Parts()
    call = make(torch.compile(model, backend=parts.backend), torch.bfloat16)
    before = processor_seconds()
    call()
    whole = processor_seconds() - before
    dynamo = whole - sum(parts.seconds.values())
    seconds = {"dynamo": dynamo, **parts.seconds}
    return {"layers": layers, "seconds": seconds, "launches": parts.launches, "kernels": parts.kernels}


def main() -> None:
    """Run the trial that the command line names."""
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    name, layers = sys.argv[1:]
    with torch.no_grad():
        # What is loaded at first use is loaded before.
        torch.compile(nn.Linear(16, 16, device="meta"), backend=Parts().backend)(torch.ones(16, 16, device="meta"))
        tell(trial(CASES[name], int(layers)))


if __name__ == "__main__":
    main()
