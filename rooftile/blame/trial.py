"""A trial: one subject through the passes under some switches, and what its stages and kernels compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from rooftile.accuracy import error
from rooftile.blame.subject import Subject, seeded
from rooftile.codegen.emit import emit
from rooftile.codegen.together import emit_all
from rooftile.compilation import Runnable
from rooftile.config import Config
from rooftile.driver import fp32_precision
from rooftile.ir.core import Graph, Op, TensorType
from rooftile.ir.evaluator import Compute, Tensors, evaluate
from rooftile.ir.replacing import graph_of
from rooftile.ir.tile_evaluator import run_region
from rooftile.passes.base import Pass, PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager, Stage
from rooftile.passes.pipeline import pipeline
from rooftile.passes.switches import Switches
from rooftile.plans import Plans
from rooftile.reproduce import copies_of_written
from rooftile.runtime.arguments import laid_out, laid_out_copy
from rooftile.runtime.devices import with_index
from rooftile.runtime.loading import load
from rooftile.runtime.plan import make_plan, strides_in
from rooftile.target import Target


@dataclass(frozen=True)
class Trial:
    """``subject`` compiled for ``target`` under ``switches``, whose record fills as the passes run.

    ``only`` are passes to run in place of the pipeline.
    """

    subject: Subject
    target: Target
    switches: Switches
    only: tuple[Pass, ...] = ()

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """What runs: the pipeline, if nothing else is said."""
        return self.only or pipeline(fp32_precision(self.target))

    @cached_property
    def context(self) -> PassContext:
        """The passes' context, with the ledger."""
        return PassContext(self.target, switches=self.switches)

    @cached_property
    def stages(self) -> list[Stage]:
        """The graph before any pass and after each."""
        return Manager().run(self.subject.graph, self.passes, self.context)

    @property
    def graph(self) -> Graph:
        """The lowered graph."""
        return self.stages[-1].graph

    def alone(self, number: int, switches: Switches) -> Graph:
        """What pass ``number`` of the pipeline makes of the graph before it under other switches."""
        context = PassContext(self.target, switches=switches)
        return Manager().run(self.stages[number].graph, self.passes[number : number + 1], context)[-1].graph

    def without(self, names: Iterable[str]) -> Trial:
        """The same with more left out."""
        return Trial(self.subject, self.target, Switches(off=self.switches.off.union(names)), self.only)

    @cached_property
    def runs_here(self) -> bool:
        """Whether the kernels run where the subject's tensors are."""
        return self.target.kind == self.subject.device.type

    def evaluated(self, graph: Graph, instead: Mapping[Op, Compute] | None = None) -> list[torch.Tensor]:
        """What ``graph`` computes in its own dtypes by the reference, ``instead`` computing some of its ops."""
        with torch.no_grad(), seeded():
            return evaluate(graph, self.subject.tensors, self.subject.sizes, instead=instead)

    def meaning(self, graph: Graph) -> list[torch.Tensor]:
        """What ``graph`` computes with every float op in float64: without roundings."""
        with torch.no_grad(), seeded():
            return evaluate(graph, self.subject.tensors, self.subject.sizes, promote=True)

    @cached_property
    def results(self) -> list[torch.Tensor]:
        """What the program computes; where its kernels don't run here, what their tile programs do."""
        if not self.runs_here:
            return self.by_kernels
        program = self.program()
        with torch.no_grad(), seeded():
            return program(copies_of_written(self.subject.graph, self.subject.tensors), self.subject.sizes)

    @cached_property
    def by_kernels(self) -> list[torch.Tensor]:
        """What the kernels compute one by one, each in a launch of its own, without a plan's memory."""
        return self.evaluated(self.graph, {op: self.kernel(op) for op in self.regions})

    @cached_property
    def regions(self) -> list[Op]:
        """The ops that are kernels."""
        return [op for op in self.graph.ops if op.name == "region"]

    def kernel(self, op: Op) -> Compute:
        """The kernel of a region, compiled and run; where it cannot run here, its tile program."""
        return self.compiled(op) if self.runs_here else self.tile_program(op)

    def tile_program(self, op: Op) -> Compute:
        """The tile IR of a region's kernel, run by the evaluator."""
        return lambda inputs: run_region(op, inputs, self.subject.sizes)

    def compiled(self, op: Op) -> Compute:
        """The Triton text of a region's kernel, by itself, compiled for the device and run."""
        kernels = {op: emit(op.regions[1], self.target, op.regions[0])}
        plan, sizes = make_plan(graph_of(str(op.attrs["name"]), op), kernels), self.subject.sizes
        program = load(plan, self.target, self._device(), Config.from_env())
        types = [v.type for v in op.inputs]

        def run(inputs: Tensors) -> list[torch.Tensor]:
            placed = [as_typed(x, t, sizes) for x, t in zip(inputs, types, strict=True)]
            return program([laid_out_copy(x) if n in plan.updated else x for n, x in enumerate(placed)], sizes)

        return run

    @cached_property
    def plans(self) -> Plans:
        """The plans of a call: kernels that share launches, what is packed once, memory that is used again."""
        shared = launches(self.graph)
        return Plans.of(shared.graph, emit_all(shared, self.target))

    def program(self) -> Runnable:
        """What a call runs."""
        return self.plans.loaded(self.target, self._device(), Config.from_env(), "default")

    def _device(self) -> torch.device:
        return with_index(self.subject.device)


def given(results: Tensors) -> Compute:
    """A computation whose results are there already."""
    return lambda _: results


def as_typed(x: torch.Tensor, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
    """``x`` with the strides of ``type``."""
    return x.contiguous() if type.strides is None else laid_out(x, strides_in(type, sizes))


def worst(results: Tensors, exact: Tensors) -> float:
    """The largest relative error of any float result; infinite where one is not finite and should be."""
    found = [0.0]
    for y, r in zip(results, exact, strict=True):
        if r.is_floating_point() and y.is_floating_point():
            lost = bool((r.isfinite() & ~y.isfinite()).any())
            found.append(float("inf") if lost else error(y, r))
        elif not torch.equal(y, r.to(y.dtype)):
            found.append(float("inf"))
    return max(found)
