"""What the first call of a program tells: sizes, and where somebody looks, times, resources and which steps its masks
left."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from rooftile.bucketed import Bucketed
from rooftile.compilation import Compilation, Runnable
from rooftile.dump import write_report
from rooftile.ir.core import Value, freeze_attrs
from rooftile.ir.evaluator import evaluate
from rooftile.later import Later
from rooftile.passes.liveness import live_ops
from rooftile.runtime.graphs import GraphProgram
from rooftile.runtime.packed import Packed
from rooftile.runtime.plan import Plan
from rooftile.runtime.program import Program
from rooftile.runtime.tuning.clocks import clock_for


class Built:
    """A program that tells its compilation about its first call; where that is ``looked_at``, which steps it left out
    too."""

    def __init__(self, compilation: Compilation, program: Runnable, *, looked_at: bool, timed: bool) -> None:
        self.program = program
        self._waiting: Compilation | None = compilation
        self._looked_at = looked_at
        self._timed = timed
        self._guard = threading.Lock()

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        results = self.program(tensors, sizes)
        if self._waiting is not None:
            with self._guard:  # other threads' first calls wait, and find it told
                if isinstance(self.program, Later):
                    self.program = self.program.made()
                if self._waiting is not None:
                    self._tell(self._waiting, tensors, sizes)
                    self._waiting = None
        return results

    def invalidate(self) -> None:
        """Compute what is kept of the weights anew in the next call."""
        programs = self.program.programs() if isinstance(self.program, Bucketed) else [self.program]
        for program in programs:
            if isinstance(program, Packed):
                program.invalidate()

    def _tell(self, compilation: Compilation, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> None:
        compilation.sizes.update(sizes)
        program: object = self.program.program(sizes) if isinstance(self.program, Bucketed) else self.program
        packed = program if isinstance(program, Packed) else None
        program = program if packed is None else packed.main
        program = program.program if isinstance(program, GraphProgram) else program
        if isinstance(program, Program):
            compilation.peak_bytes = program.peak_bytes(sizes)
            if self._timed or compilation.dump is not None:
                compilation.resources.update(program.resources())
            told = _told(program.plan) if self._looked_at else {}
            if packed is not None and (told or self._timed):
                tensors = packed.completed(tensors)
            if told:
                compilation.visits = program.intermediates(told, tensors, sizes)
            if self._timed:
                clock = clock_for(compilation.target, program.device)
                compilation.step_us = program.time_steps(tensors, sizes, clock)
        elif compilation.plan is not None and compilation.device.type != "meta" and self._looked_at:
            compilation.visits = _told_by_reference(compilation, compilation.plan, tensors, sizes)
        if compilation.dump is not None:
            self._write_again(compilation, compilation.dump)

    def _write_again(self, compilation: Compilation, folder: Path) -> None:
        """The dump's report, now that there are sizes, times and resources; that it was written once is enough."""
        with suppress(OSError):
            write_report(compilation, folder)


def _told(plan: Plan) -> dict[int, Value]:
    """The buffers, by number, that tell kernels which steps to visit."""
    return {launch.visits: launch.op.inputs[-1] for launch in plan.launches if launch.visits is not None}


def _told_by_reference(
    compilation: Compilation, plan: Plan, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]
) -> dict[int, torch.Tensor]:
    """What these buffers would hold where the kernels do not run here."""
    told, graph = _told(plan), compilation.graph
    if not told:
        return {}
    wanted = tuple(told.values())
    part = replace(graph, ops=tuple(live_ops(graph.ops, wanted)), outputs=wanted, attrs=freeze_attrs({}))
    with torch.no_grad():
        found = evaluate(part, [t.detach() for t in tensors], dict(sizes))
    return {number: x.cpu() for number, x in zip(told, found, strict=True)}
