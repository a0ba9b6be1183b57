"""What a profiler shows of a program: a range for the whole, and one for each step with its module's path in the model.

``torch.profiler`` shows the ranges beside the GPU's kernels, which bear the names of their files; under
``torch.autograd.profiler.emit_nvtx`` Nsight does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from rooftile.runtime.plan import Plan, Step

# Whether some profiler is listening: asked in every call, so it must cost next to nothing.
is_profiling: Callable[[], bool] = torch._C._autograd._profiler_enabled


def step_ranges(plan: Plan) -> tuple[str, ...]:
    """The name of each step's range: ``layers.0.attention: attention_contract``."""
    return tuple(": ".join(part for part in (module_of(step), step.name) if part) for step in plan.steps)


def module_of(step: Step) -> str:
    """The innermost module in which all that a step computes stands; where there is none, that of its result."""
    ops = step.op.regions[0].ops if step.op.regions else (step.op,)
    paths = [tuple(op.loc.module.split(".")) for op in ops if op.loc.module]
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*paths, strict=False))]
    return ".".join(shared or (paths[-1] if paths else ()))


def run_in_ranges(name: str, actions: Sequence[Callable[[], None]], ranges: Sequence[str]) -> None:
    """Run the actions in order, each in its range, all in one of the program's."""
    with torch.profiler.record_function(f"rooftile: {name}"):
        for act, text in zip(actions, ranges, strict=True):
            with torch.profiler.record_function(text):
                act()
