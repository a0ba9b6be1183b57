"""A program: a plan bound to a device, called with tensors.

What depends only on the sizes of a call (places in the arena, grids, the order of arguments) is worked out once for
each set of sizes, so that a call checks its inputs, makes two or three allocations and launches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch

from rooftile.errors import InputError
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Op
from rooftile.ir.expr import Symbol
from rooftile.runtime.arguments import expected_of, laid_out_copy
from rooftile.runtime.frame import Binding, Frame, Fresh
from rooftile.runtime.launch import Launcher
from rooftile.runtime.plan import Plan
from rooftile.runtime.profiling import is_profiling, run_in_ranges, step_ranges
from rooftile.runtime.resources import Resources
from rooftile.runtime.steps import bind_steps
from rooftile.runtime.tuning.clocks import Clock

# Bindings kept; a program that is called with more different sizes than this works some out again.
_BINDINGS_KEPT = 1024


class Program:
    """Runs a plan: ``program(tensors, sizes)`` gives a tensor for each of the plan's results: a new one, or that of the
    caller's which has been written over.

    ``launchers`` has one for each launch of the plan, in order. Threads may call at once: every call has an arena of
    its own.
    """

    def __init__(self, plan: Plan, launchers: Sequence[Launcher], device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self._launchers = tuple(launchers)
        self._symbols = plan.symbols
        self._ranges = step_ranges(plan)
        self._bindings: dict[tuple[int, ...], Binding] = {}

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None) -> list[torch.Tensor]:
        """Run on ``tensors``, one for each of the graph's inputs; ``sizes`` are its size symbols, if not to be read
        off them.

        Raises:
            InputError: a tensor has another dtype, rank, size, layout or device than the plan is for, or a size is
                out of its range. Nothing has been launched then.
        """
        binding = self.binding(tensors, sizes)
        with self.on_device():
            return self.run(binding, tensors)

    def run(
        self, binding: Binding, tensors: Sequence[torch.Tensor], results: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Run on tensors that fit ``binding``, on the current device; into ``results`` of an earlier run, if given."""
        frame = binding.take_frame()
        frame.enter(tensors, binding.memory(results))
        if is_profiling():
            run_in_ranges(self.plan.name, frame.actions, self._ranges)
        else:
            for act in frame.actions:
                act()
        results = frame.leave()
        binding.keep_frame(frame)
        return results

    def time_steps(
        self,
        tensors: Sequence[torch.Tensor],
        sizes: Mapping[str, int] | None,
        clock: Clock,
        repeats: int = 20,
    ) -> list[float]:
        """What each step of the plan takes by ``clock``, in microseconds: the median of ``repeats`` runs of it.

        Raises:
            InputError: as for a call.
        """
        binding = self.binding(tensors, sizes)
        updated = self.plan.updated
        tensors = [laid_out_copy(t) if number in updated else t for number, t in enumerate(tensors)]
        found = []
        with self.on_device():
            frame = Frame(binding, drops=False)  # a step that is repeated wants its inputs again
            frame.enter(tensors, binding.memory())
            for act in frame.actions:  # one may be repeated: it writes what it wrote before
                act()
                found.append(median(clock.microseconds([act], repeats)[0]))
        return found

    def intermediates(
        self, numbers: Collection[int], tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None
    ) -> dict[int, torch.Tensor]:
        """What the buffers ``numbers`` hold as they are written, on the CPU: the steps up to the last of them are run.

        Raises:
            InputError: as for a call.
        """
        binding = self.binding(tensors, sizes)
        found: dict[int, torch.Tensor] = {}
        with self.on_device():
            frame = Frame(binding, drops=False)
            frame.enter(tensors, binding.memory())
            for step, act in zip(self.plan.steps, frame.actions, strict=True):
                if found.keys() >= set(numbers):
                    break
                act()
                found |= {n: frame.tensor(n).cpu().clone() for n in step.writes if n in numbers}
        return found

    def binding(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None) -> Binding:
        """What a call with these tensors needs.

        Raises:
            InputError: as for a call.
        """
        binding = self._binding(self._sizes(tensors) if sizes is None else sizes)
        binding.check(tensors)
        return binding

    def peak_bytes(self, sizes: Mapping[str, int] | None = None) -> int:
        """The most bytes that a call with these sizes holds at once, beside its inputs."""
        return self._binding(sizes or {}).layout.peak_bytes

    def resources(self) -> dict[Op, Resources]:
        """What the compiled kernel of each region uses of the GPU; nothing on the CPU."""
        pairs = zip(self.plan.launches, self._launchers, strict=True)
        return {launch.op: found for launch, launcher in pairs if (found := launcher.resources) is not None}

    def _sizes(self, tensors: Sequence[torch.Tensor]) -> Mapping[str, int]:
        return bind_sizes(self.plan.graph.inputs, [tuple(t.shape) for t in tensors])

    def on_device(self) -> AbstractContextManager[Any]:
        """A context in which the program's GPU is torch's current one."""
        if self.device.type != "cuda" or self.device.index == torch.cuda.current_device():
            return nullcontext()
        return torch.cuda.device(self.device)

    def _binding(self, sizes: Mapping[str, int]) -> Binding:
        try:
            key = tuple(sizes[s.name] for s in self._symbols)
        except KeyError as missing:
            raise InputError(f"the call gives no value for the size {missing.args[0]}") from None
        binding = self._bindings.get(key)
        if binding is None:
            _check_sizes(self._symbols, sizes)
            if len(self._bindings) >= _BINDINGS_KEPT:
                self._bindings.clear()
            binding = self._bindings[key] = _bind(self.plan, self._launchers, self.device, sizes)
        return binding


def _bind(plan: Plan, launchers: Sequence[Launcher], device: torch.device, sizes: Mapping[str, int]) -> Binding:
    bound = bind_steps(plan, launchers, sizes)
    fresh = [
        Fresh(b.number, b.shape(sizes), b.strides(sizes), b.type.dtype.torch) for b in plan.buffers if b.home == "fresh"
    ]
    in_kernels = {number for step in plan.launches for number in step.reads}
    expected = tuple(expected_of(b, device if b.number in in_kernels else None, sizes) for b in plan.arguments)
    layout = plan.layout(sizes, {number: step.scratch_bytes for number, step in bound.in_scratch.items()})
    return Binding(plan, device, dict(sizes), expected, layout, tuple(fresh), bound)


def _check_sizes(symbols: Sequence[Symbol], sizes: Mapping[str, int]) -> None:
    for s in symbols:
        value = sizes[s.name]
        if value < s.lo or (s.hi is not None and value > s.hi) or value % s.divisor:
            upper = "" if s.hi is None else f" and at most {s.hi}"
            multiple = "" if s.divisor == 1 else f", a multiple of {s.divisor}"
            raise InputError(f"the size {s.name} is {value}; the plan is for at least {s.lo}{upper}{multiple}")
