"""From a lowered graph to what runs it: a plan for every call, one for what is packed, and the program over both."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.compilation import Runnable
from rooftile.config import Config
from rooftile.ir.core import Graph, Op
from rooftile.passes.packing import apart
from rooftile.runtime.graphs import GraphProgram
from rooftile.runtime.loading import begin, load
from rooftile.runtime.packed import Packed
from rooftile.runtime.plan import Plan, make_plan
from rooftile.runtime.plan_faults import PlanFault, plan_faults
from rooftile.runtime.program import Program
from rooftile.target import Target

_LOG = logging.getLogger("rooftile.driver")


@dataclass(frozen=True)
class Plans:
    """The plan of every call; and that of what is packed before the first one, from the inputs numbered ``sources``."""

    every: Plan
    once: Plan | None = None
    sources: tuple[int, ...] = ()

    @staticmethod
    def of(graph: Graph, kernels: Mapping[Op, Kernel]) -> Plans:
        """The plans of a lowered graph."""
        parts = apart(graph)
        if parts is None:
            return Plans(make_plan(graph, kernels))
        return Plans(make_plan(parts.every, kernels), make_plan(parts.once, kernels), parts.sources)

    def faults(self, sizes: Mapping[str, int]) -> list[PlanFault]:
        """What is wrong with them, for one set of sizes."""
        plans = (self.every,) if self.once is None else (self.once, self.every)
        return [fault for plan in plans for fault in plan_faults(plan, sizes)]

    def begin(self, target: Target, config: Config) -> None:
        """Begin to compile what ``loaded`` will wait for."""
        launches = (launch for plan in (self.once, self.every) if plan is not None for launch in plan.launches)
        begin([launch.kernel for launch in launches], target, config)

    def loaded(self, target: Target, device: torch.device, config: Config, mode: str) -> Runnable:
        """The program that runs them."""
        program = replayed(load(self.every, target, device, config), mode)
        if self.once is None:
            return program
        once = load(self.once, target, device, config)
        return Packed(once, program, self.sources, len(self.every.arguments) - len(self.once.results))


def replayed(program: Runnable, mode: str) -> Runnable:
    """The program as ``mode`` wants it called: as a CUDA graph, unless the mode is the default."""
    if mode == "default" or not isinstance(program, Program):
        return program
    if program.device.type != "cuda":
        say_no_graphs(mode)
        return program
    return GraphProgram(program)


@cache
def say_no_graphs(mode: str) -> None:
    """Say once that a mode is the default one where there is no GPU."""
    _LOG.warning("mode=%s: CUDA graphs need a GPU; on the CPU calls are plain ones", mode)
