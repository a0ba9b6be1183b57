"""The steps of a plan for one set of sizes, as functions that act on a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import torch

from rooftile.errors import InternalError
from rooftile.ir.extern import call_extern
from rooftile.ir.substitution import evaluate
from rooftile.runtime.launch import Argument, Launcher
from rooftile.runtime.plan import Buffer, Call, Launch, Plan

_LOG = logging.getLogger("rooftile.launches")


class Run(Protocol):
    """One call of a program, as its steps see it.

    ``slots`` holds what kernels are passed: for each buffer its address on CUDA and its tensor on the CPU, and
    behind the buffers the sizes that kernels take.
    """

    slots: list[Argument]

    def tensor(self, number: int) -> torch.Tensor:
        """Buffer ``number`` as a tensor."""

    def hold(self, number: int, tensor: torch.Tensor) -> None:
        """Make ``tensor`` what buffer ``number`` is."""

    def drop(self, number: int) -> None:
        """Buffer ``number`` is needed no more."""


Action: TypeAlias = Callable[[Any], None]


def actions(
    plan: Plan, launchers: Sequence[Launcher], sizes: Mapping[str, int]
) -> tuple[tuple[Action, ...], tuple[int, ...]]:
    """What each step does to a run, and the sizes that stand behind the buffers in its slots.

    Raises:
        InternalError: a kernel was built for sizes with a divisor that one of these does not have.
    """
    extra: list[int] = []
    waiting = iter(launchers)
    done = [
        _launch(step, next(waiting), sizes, len(plan.buffers), extra)
        if isinstance(step, Launch)
        else _call(step, plan, sizes)
        for step in plan.steps
    ]
    return tuple(_then_drop(act, _last_used(plan, number)) for number, act in enumerate(done)), tuple(extra)


def _launch(step: Launch, launcher: Launcher, sizes: Mapping[str, int], first_extra: int, extra: list[int]) -> Action:
    grid = tuple(evaluate(size, sizes) for size in step.kernel.grid)
    buffers = iter((*step.reads, *step.writes))
    slots: list[int] = []
    for param in step.kernel.params:
        if param.kind == "buffer":
            slots.append(next(buffers))
            continue
        value = sizes[param.name]
        if param.aligned and value % 16:
            raise InternalError(f"kernel {step.name} was built for multiples of 16 of {param.name}, which is {value}")
        slots.append(first_extra + len(extra))
        extra.append(value)
    # itemgetter gives a tuple only for two or more.
    arguments: Callable[[Any], Any] = itemgetter(*slots) if len(slots) > 1 else lambda s: (s[slots[0]],)
    if _LOG.isEnabledFor(logging.DEBUG):
        return _logged(step, grid, launcher, arguments)
    return lambda run: launcher(grid, arguments(run.slots))


def _logged(step: Launch, grid: tuple[int, ...], launcher: Launcher, arguments: Callable[[Any], Any]) -> Action:
    def act(run: Run) -> None:
        _LOG.debug("launch %s, %s programs", step.name, " x ".join(map(str, grid)))
        launcher(grid, arguments(run.slots))

    return act


def _call(step: Call, plan: Plan, sizes: Mapping[str, int]) -> Action:
    results = [plan.buffers[number] for number in step.writes]

    def act(run: Run) -> None:
        _LOG.debug("call %s", step.name)
        with torch.no_grad():
            returned = call_extern(step.op, [run.tensor(number) for number in step.reads], sizes)
        for buffer, tensor in zip(results, returned, strict=True):
            run.hold(buffer.number, _laid_out(tensor, buffer, sizes))

    return act


def _laid_out(tensor: torch.Tensor, buffer: Buffer, sizes: Mapping[str, int]) -> torch.Tensor:
    """What ATen returned, in the layout that kernels read it in."""
    strides = buffer.strides(sizes)
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _last_used(plan: Plan, step: int) -> tuple[int, ...]:
    """What ATen returned and no later step needs: its memory goes back before the next step."""
    return tuple(b.number for b in plan.buffers if b.home == "aten" and b.last == step)


def _then_drop(act: Action, dead: tuple[int, ...]) -> Action:
    if not dead:
        return act

    def act_and_drop(run: Run) -> None:
        act(run)
        for number in dead:
            run.drop(number)

    return act_and_drop
