"""A program recorded as a CUDA graph and replayed: the host submits all launches of a call as one.

A recording is bound to addresses. Intermediates and results have memory of their own in it. Weights are read where
they lie, and if one moves the program is recorded again. An input is read where it lies as long as it stays there; from
the call on at which it first comes from elsewhere, it is copied in, and out again if the program writes to it. Results
are copied out, so that they outlive the next call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch

from rooftile.errors import RooftileError
from rooftile.ir.extern import find_target
from rooftile.runtime.arguments import is_plain
from rooftile.runtime.frame import ADDRESS, IS_NEGATED, Binding, Frame, Memory
from rooftile.runtime.plan import Call, Plan
from rooftile.runtime.program import Program

MOST_MOVES = 8  # if weights move more often than this, calls are not recorded any more
MOST_SIZES = 32  # sets of sizes that are recorded; each has memory of its own

_RECORDING = threading.Lock()  # torch empties its caches before it records, and two may not do so at once
_LOG = logging.getLogger("rooftile.graphs")

Replay: TypeAlias = Callable[[], None]


class Recorder(Protocol):
    """How work on a device is recorded."""

    def record(self, work: Callable[[], None]) -> Replay:
        """What does again all that ``work`` submits to the device; whether it is done now is up to the recorder.

        Raises RuntimeError or RooftileError where the work cannot be recorded.
        """

    def is_recording(self) -> bool:
        """Whether somebody else is recording what this thread submits."""

    def order(self) -> None:
        """Let what this thread submits from now on wait for what it or another thread submitted to a recording."""


class CudaRecorder:
    """Records as a CUDA graph."""

    def __init__(self) -> None:
        self._last: tuple[int, torch.cuda.Stream] | None = None  # the number of the last call's stream, and the stream

    def record(self, work: Callable[[], None]) -> Replay:
        """See ``Recorder``: nothing is computed while recording."""
        with _RECORDING:
            torch.cuda.synchronize()  # earlier replays are done with memory that this one may get
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
                work()
        return graph.replay

    def is_recording(self) -> bool:
        """Whether the current stream is being captured."""
        return torch.cuda.is_current_stream_capturing()

    def order(self) -> None:
        """A call from another stream waits for the calls before, with which it shares memory."""
        number = torch._C._cuda_getCurrentRawStream(torch.cuda.current_device())
        if self._last is not None and number == self._last[0]:
            return
        stream = torch.cuda.current_stream()
        if self._last is not None:
            stream.wait_stream(self._last[1])
        self._last = number, stream


@dataclass
class _Recording:
    """A recorded call: the addresses that it reads, the inputs that are to be copied in, and its results."""

    addresses: Mapping[int, int]
    copied: Mapping[int, torch.Tensor]
    memory: Memory
    results: list[torch.Tensor]
    replay: Replay

    def reads_from(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether what is read where it lies is still there."""
        there = [tensors[number] for number in self.addresses]
        return list(map(ADDRESS, there)) == [*self.addresses.values()] and not any(map(IS_NEGATED, there))


@dataclass
class _History:
    """The calls with one set of sizes so far: where their inputs lay, which of them moved, and how often weights did;
    ``refused`` says why they are not recorded."""

    seen: tuple[int, ...] | None = None
    moving: set[int] = field(default_factory=set)
    weight_moves: int = 0
    current: _Recording | None = None
    refused: str | None = None


class GraphProgram:
    """Runs a program as recordings, one for each set of sizes; its first call with each is a plain one.

    What cannot be recorded runs plainly, and the log says why. Threads take turns; streams wait for one another.
    """

    def __init__(self, program: Program, recorder: Recorder | None = None) -> None:
        self.program = program
        self._recorder = recorder or CudaRecorder()
        self._weights = frozenset(b.number for b in program.plan.arguments if b.role == "weight")
        self._updated = frozenset(program.plan.updated)
        self._arguments = program.plan.results_that_are_arguments
        self._refused = why_not(program.plan)
        self._histories: WeakKeyDictionary[Binding, _History] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def plan(self) -> Plan:
        """What is run."""
        return self.program.plan

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None) -> list[torch.Tensor]:
        """As ``Program``'s.

        Raises:
            InputError: as there.
        """
        binding = self.program.binding(tensors, sizes)
        with self._lock, self.program.on_device():
            history = self._histories.get(binding)
            if history is None:
                history = self._histories[binding] = _History(refused=self._refused or _foreign(binding, tensors))
            if history.refused is not None or self._recorder.is_recording():
                return self.program.run(binding, tensors)
            recording = self._recording(history, binding, tensors)
            if recording is None:
                return self.program.run(binding, tensors)
            self._recorder.order()
            for number, place in recording.copied.items():
                place.copy_(tensors[number].detach())
            recording.replay()
            for number in self._updated & recording.copied.keys():
                tensors[number].detach().copy_(recording.copied[number])
            return [
                _like(result).copy_(result) if number is None else tensors[number]
                for result, number in zip(recording.results, self._arguments, strict=True)
            ]

    def _recorded(self) -> int:
        return sum(history.current is not None for history in self._histories.values())

    def _recording(self, history: _History, binding: Binding, tensors: Sequence[torch.Tensor]) -> _Recording | None:
        """The recording that fits these tensors, made if need be; None where the call is to be a plain one."""
        if history.current is not None and history.current.reads_from(tensors):
            return history.current
        before, history.seen = history.seen, tuple(t.data_ptr() for t in tensors)
        if before is None:
            return None
        moved = {n for n, (old, new) in enumerate(zip(before, history.seen, strict=True)) if old != new}
        if moved & self._weights:
            history.weight_moves += 1
        if history.weight_moves > MOST_MOVES:
            _refuse(history, self.plan, f"its weights have moved {MOST_MOVES} times")
            return None
        if history.current is None and self._recorded() >= MOST_SIZES:
            _refuse(history, self.plan, f"{MOST_SIZES} other sizes are recorded")
            return None
        history.moving |= (moved | {n for n, t in enumerate(tensors) if not is_plain(t)}) - self._weights
        history.current = None
        try:
            with torch.inference_mode(False):  # memory that calls in either mode may write to
                history.current = _record(self._recorder, binding, tensors, history.moving)
        except (RuntimeError, RooftileError) as error:
            _refuse(history, self.plan, f"recording failed: {error}")
        return history.current


def _record(recorder: Recorder, binding: Binding, tensors: Sequence[torch.Tensor], moving: set[int]) -> _Recording:
    copied = {n: _like(t) for n, t in enumerate(tensors) if n in moving}
    addresses = {n: t.data_ptr() for n, t in enumerate(tensors) if n not in moving}
    inputs = [copied.get(n, t) for n, t in enumerate(tensors)]
    frame, memory = Frame(binding), binding.memory()
    results: list[torch.Tensor] = []

    def work() -> None:
        frame.enter(inputs, memory)
        for act in frame.actions:
            act()
        results[:] = frame.leave()

    return _Recording(addresses, copied, memory, results, recorder.record(work))


def why_not(plan: Plan) -> str | None:
    """Why a plan cannot be recorded: an ATen call in it whose result's size is data, which the host has to wait for."""
    for step in plan.steps:
        if isinstance(step, Call):
            tags = find_target(step.name).tags
            if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
                return f"the host waits for the result of {step.name}"
    return None


def _foreign(binding: Binding, tensors: Sequence[torch.Tensor]) -> str | None:
    """Why calls with these sizes cannot be recorded: something is read from another device."""
    away = [e.name for e, t in zip(binding.expected, tensors, strict=True) if t.device != binding.device]
    return f"the input {away[0]} is on another device" if away else None


def _like(tensor: torch.Tensor) -> torch.Tensor:
    """A new tensor, laid out alike."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def _refuse(history: _History, plan: Plan, reason: str) -> None:
    history.refused = reason
    _LOG.warning("%s runs without a CUDA graph: %s", plan.name, reason)
