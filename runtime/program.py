"""A program: a plan bound to a device, called with tensors.

What depends only on the sizes of a call (places in the arena, grids, the order of arguments) is worked out once for
each set of sizes, so that a call checks its inputs, makes two or three allocations and launches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rooftile.errors import InputError
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.expr import Symbol
from rooftile.runtime.arguments import Expected, aligned, check, expected_of
from rooftile.runtime.launch import Argument, Launcher
from rooftile.runtime.plan import Buffer, Layout, Plan
from rooftile.runtime.steps import Action, actions

# Bindings kept; a program that is called with more different sizes than this works some out again.
_BINDINGS_KEPT = 1024


class Program:
    """Runs a plan: ``program(tensors, sizes)`` gives a new tensor for each of the plan's results.

    ``launchers`` has one for each launch of the plan, in order. Threads may call at once: every call has an arena of
    its own.
    """

    def __init__(self, plan: Plan, launchers: Sequence[Launcher], device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self._launchers = tuple(launchers)
        self._symbols = plan.symbols
        self._bindings: dict[tuple[int, ...], _Binding] = {}

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None) -> list[torch.Tensor]:
        """Run on ``tensors``, one for each of the graph's inputs; ``sizes`` are its size symbols, if not to be read
        off them.

        Raises:
            InputError: a tensor has another dtype, rank, size, layout or device than the plan is for, or a size is
                out of its range. Nothing has been launched then.
        """
        binding = self._binding(self._sizes(tensors) if sizes is None else sizes)
        check(tensors, binding.expected)
        with self._on_device():
            return _Run(self, binding, tensors).results()

    def time_steps(
        self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None, repeats: int = 20
    ) -> list[float]:
        """What each step of the plan takes on the GPU, in microseconds: the mean of ``repeats`` runs of it, one
        after another.

        Raises:
            InputError: as for a call.
        """
        binding = self._binding(self._sizes(tensors) if sizes is None else sizes)
        check(tensors, binding.expected)
        with self._on_device():
            run = _Run(self, binding, tensors)
            return [_time(partial(action, run), repeats) for action in binding.actions]

    def peak_bytes(self, sizes: Mapping[str, int] | None = None) -> int:
        """The most bytes that a call with these sizes holds at once, beside its inputs."""
        return self._binding(sizes or {}).layout.peak_bytes

    def _sizes(self, tensors: Sequence[torch.Tensor]) -> Mapping[str, int]:
        return bind_sizes(self.plan.graph.inputs, [tuple(t.shape) for t in tensors])

    def _on_device(self) -> AbstractContextManager[Any]:
        if self.device.type != "cuda" or self.device.index == torch.cuda.current_device():
            return nullcontext()
        return torch.cuda.device(self.device)

    def _binding(self, sizes: Mapping[str, int]) -> _Binding:
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


@dataclass(frozen=True)
class _Fresh:
    """A result to be allocated."""

    number: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Binding:
    """What a call with certain sizes needs."""

    sizes: Mapping[str, int]
    expected: tuple[Expected, ...]
    layout: Layout
    fresh: tuple[_Fresh, ...]
    actions: tuple[Action, ...]
    slots: tuple[int, ...]


class _Run:
    """One call: see ``rooftile.runtime.steps.Run``."""

    def __init__(self, program: Program, binding: _Binding, tensors: Sequence[torch.Tensor]) -> None:
        self.plan, self.device, self.binding = program.plan, program.device, binding
        self.by_address = self.device.type == "cuda"
        self.tensors: dict[int, torch.Tensor] = {}
        self.slots: list[Argument] = list(binding.slots)
        self.arena = torch.empty(binding.layout.arena_bytes, dtype=torch.uint8, device=self.device)
        for number, tensor in enumerate(tensors):
            self.hold(number, aligned(tensor))
        for f in binding.fresh:
            self.hold(f.number, torch.empty_strided(f.shape, f.strides, dtype=f.dtype, device=self.device))
        self._place_intermediates()

    def results(self) -> list[torch.Tensor]:
        """Take every step, then hand out the results."""
        for action in self.binding.actions:
            action(self)
        return [self._copy(r.buffer) if r.copy else self.tensors[r.buffer] for r in self.plan.results]

    def hold(self, number: int, tensor: torch.Tensor) -> None:
        """Make ``tensor`` what buffer ``number`` is."""
        self.tensors[number] = tensor
        self.slots[number] = tensor.data_ptr() if self.by_address else tensor

    def drop(self, number: int) -> None:
        """Buffer ``number`` is needed no more."""
        del self.tensors[number]
        self.slots[number] = 0

    def tensor(self, number: int) -> torch.Tensor:
        """Buffer ``number`` as a tensor."""
        if number not in self.tensors:
            self.tensors[number] = self._view(self.plan.buffers[number])
        return self.tensors[number]

    def _place_intermediates(self) -> None:
        base = self.arena.data_ptr()
        for number, offset in self.binding.layout.offsets.items():
            self.slots[number] = base + offset if self.by_address else self.tensor(number)

    def _view(self, buffer: Buffer) -> torch.Tensor:
        sizes, offset = self.binding.sizes, self.binding.layout.offsets[buffer.number]
        line = self.arena[offset : offset + buffer.bytes(sizes)].view(buffer.type.dtype.torch)
        return line.as_strided(buffer.shape(sizes), buffer.strides(sizes))

    def _copy(self, number: int) -> torch.Tensor:
        sizes, source = self.binding.sizes, self.tensor(number)
        buffer = self.plan.buffers[number]
        return torch.empty(buffer.shape(sizes), dtype=source.dtype, device=source.device).copy_(source)


def _time(step: Callable[[], None], repeats: int) -> float:
    """Microseconds on the current stream. A step may be repeated: it writes what it wrote before."""
    step()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3 / repeats


def _bind(plan: Plan, launchers: Sequence[Launcher], device: torch.device, sizes: Mapping[str, int]) -> _Binding:
    acts, extra = actions(plan, launchers, sizes)
    fresh = [
        _Fresh(b.number, b.shape(sizes), b.strides(sizes), b.type.dtype.torch)
        for b in plan.buffers
        if b.home == "fresh"
    ]
    in_kernels = {number for step in plan.launches for number in step.reads}
    expected = tuple(expected_of(b, device if b.number in in_kernels else None, sizes) for b in plan.arguments)
    slots = (*(0,) * len(plan.buffers), *extra)
    return _Binding(dict(sizes), expected, plan.layout(sizes), tuple(fresh), acts, slots)


def _check_sizes(symbols: Sequence[Symbol], sizes: Mapping[str, int]) -> None:
    for s in symbols:
        value = sizes[s.name]
        if value < s.lo or (s.hi is not None and value > s.hi) or value % s.divisor:
            upper = "" if s.hi is None else f" and at most {s.hi}"
            multiple = "" if s.divisor == 1 else f", a multiple of {s.divisor}"
            raise InputError(f"the size {s.name} is {value}; the plan is for at least {s.lo}{upper}{multiple}")
