"""The record of one compilation: everything that ``explain``, dumps and tests want to know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.ir.core import Graph, Op
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Stage
from rooftile.passes.reschedule import Reschedule
from rooftile.runtime.plan import Plan
from rooftile.runtime.resources import Resources
from rooftile.target import Target


class Runnable(Protocol):
    """What computes the graph: new tensors, one for each of its outputs."""

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]: ...


@dataclass
class Compilation:
    """One graph and what became of it.

    ``kernels`` and ``plan`` are missing where the pipeline was stopped early; ``packing`` is the plan of what is
    computed from weights alone, once, if there is any. ``sizes`` are those of the first call, as long as there was none
    empty, and ``peak_bytes`` the most that it held at once, with the scratch memory of its compiled kernels. ``visits``
    are the buffers of the first call, by number, that told kernels which steps to visit. ``seconds`` says what each
    part of compiling took, ``resources`` what the kernels of these region ops were found to use of a GPU.
    """

    stages: Sequence[Stage]
    context: PassContext
    device: torch.device
    kernels: Mapping[Op, Kernel] = field(default_factory=dict)
    plan: Plan | None = None
    packing: Plan | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    peak_bytes: int | None = None
    step_us: list[float] = field(default_factory=list)
    visits: dict[int, torch.Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    resources: dict[Op, Resources] = field(default_factory=dict)
    dump: Path | None = None

    @property
    def target(self) -> Target:
        """What the kernels are for."""
        return self.context.target

    @property
    def imported(self) -> Graph:
        """The graph before the first pass."""
        return self.stages[0].graph

    @property
    def graph(self) -> Graph:
        """The graph after the last pass."""
        return self.stages[-1].graph

    @property
    def flat(self) -> list[Stage]:
        """The stages before kernels are formed: there a name means one value."""
        return list(takewhile(lambda stage: all(op.name != "region" for op in stage.graph.ops), self.stages))

    @property
    def lowered(self) -> Graph:
        """The graph with the model's first choices, before what was measured."""
        return next(stage.graph for stage in reversed(self.stages) if stage.name != Reschedule.name)

    def is_library(self, op: Op) -> bool:
        """Whether ``op`` is an ATen call that was measured to be faster than our kernel, and not one of the model's."""
        return op.name == "extern" and not any(o.name == "extern" and o.outputs == op.outputs for o in self.lowered.ops)
