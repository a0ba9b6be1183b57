"""The steps of a plan for one set of sizes, and what each does to a frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

from rooftile.errors import InternalError, OutOfRangeError
from rooftile.ir.extern import call_extern, call_into, update_in_place
from rooftile.runtime.arguments import laid_out
from rooftile.runtime.descriptors import BlocksArgument, blocks_argument
from rooftile.runtime.interpreter.language import DeviceAssertion
from rooftile.runtime.interpreter.program import KernelError
from rooftile.runtime.launch import Launcher, programs
from rooftile.runtime.plan import Buffer, Call, Launch, Plan

_LOG = logging.getLogger("rooftile.launches")


class Frame(Protocol):
    """One call of a program, as its steps see it.

    ``slots`` holds what kernels are passed, in the places that ``Bound`` describes.
    """

    @property
    def slots(self) -> Any:
        """Of the kind that the program's launchers read."""

    def tensor(self, number: int) -> torch.Tensor:
        """Buffer ``number`` as a tensor."""

    def hold(self, number: int, tensor: torch.Tensor) -> None:
        """Make ``tensor`` what buffer ``number`` is."""

    def drop(self, number: int) -> None:
        """Buffer ``number`` is needed no more."""


Action: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class BoundLaunch:
    """A launch for one set of sizes: its grid, the places of its arguments in order, and that of its scratch memory,
    of which it needs ``scratch_bytes``. ``gathers`` are the places in the model whose indices the kernel checks."""

    name: str
    launcher: Launcher
    grid: tuple[int, ...]
    places: tuple[int | BlocksArgument, ...]
    scratch: int | None
    scratch_bytes: int
    gathers: tuple[str, ...]

    def on(self, frame: Frame) -> Action:
        """The launch, reading the frame's slots."""
        act = self.launcher.bind(self.grid, frame.slots, self.places, self.scratch)
        act = _explained(self, act) if self.gathers else act
        return _logged(self, act) if _LOG.isEnabledFor(logging.DEBUG) else act


@dataclass(frozen=True)
class BoundCall:
    """An ATen call for one set of sizes."""

    step: Call
    results: tuple[Buffer, ...]
    sizes: Mapping[str, int]

    def on(self, frame: Frame) -> Action:
        """The call on the frame's tensors."""

        def act() -> None:
            _LOG.debug("call %s", self.step.name)
            operands = [frame.tensor(n) for n in self.step.reads]
            with torch.no_grad():
                if self.step.in_place:
                    update_in_place(self.step.op, operands, self.sizes)
                    return
                if self.step.into:
                    call_into(self.step.op, operands, frame.tensor(self.results[0].number), self.sizes)
                    return
                returned = call_extern(self.step.op, operands, self.sizes)
            for buffer, tensor in zip(self.results, returned, strict=True):
                frame.hold(buffer.number, laid_out(tensor, buffer.strides(self.sizes)))

        return act


@dataclass(frozen=True)
class Bound:
    """A plan's steps for one set of sizes.

    The places of a frame's slots: the buffers by number, ``numbers`` (the sizes that kernels take), and the scratch
    memory of each launch that needs some. Behind step ``n``, the buffers ``dead[n]`` are needed no more: their memory,
    which ATen handed out, goes back before the next step.
    """

    steps: tuple[BoundLaunch | BoundCall, ...]
    dead: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]

    @property
    def in_scratch(self) -> dict[int, BoundLaunch]:
        """The launches that need scratch memory, by their steps' numbers."""
        launches = [(number, step) for number, step in enumerate(self.steps) if isinstance(step, BoundLaunch)]
        return {number: step for number, step in launches if step.scratch is not None}

    def actions(self, frame: Frame, *, drops: bool) -> tuple[Action, ...]:
        """What is to be done in order, on the frame; without ``drops``, no memory goes back."""
        pairs = zip(self.steps, self.dead, strict=True)
        return tuple(_then_drop(step.on(frame), frame, dead if drops else ()) for step, dead in pairs)


def bind_steps(plan: Plan, launchers: Sequence[Launcher], sizes: Mapping[str, int]) -> Bound:
    """The steps of ``plan``; ``launchers`` has one for each launch, in order.

    Raises:
        InternalError: a kernel was built for sizes with a divisor that one of these does not have.
    """
    names = list(dict.fromkeys(p.size for step in plan.launches for p in step.kernel.params if p.kind == "size"))
    number_of = {name: len(plan.buffers) + n for n, name in enumerate(names)}
    behind = iter(range(len(plan.buffers) + len(names), 2**31))
    waiting = iter(launchers)
    steps: list[BoundLaunch | BoundCall] = []
    for step in plan.steps:
        if isinstance(step, Launch):
            steps.append(_launch(step, next(waiting), sizes, number_of, behind))
        else:
            steps.append(BoundCall(step, tuple(plan.buffers[n] for n in step.writes), sizes))
    dead = tuple(_last_used(plan, number) for number in range(len(steps)))
    return Bound(tuple(steps), dead, tuple(sizes[name] for name in names))


def _launch(
    step: Launch, launcher: Launcher, sizes: Mapping[str, int], number_of: Mapping[str, int], behind: Iterator[int]
) -> BoundLaunch:
    grid = step.kernel.programs(sizes)
    buffers = iter((*step.reads, *step.writes))
    for param in step.kernel.params:
        if param.kind == "size" and param.aligned and sizes[param.size] % 16:
            value = sizes[param.size]
            raise InternalError(f"kernel {step.name} was built for multiples of 16 of {param.size}, which is {value}")
    params = step.kernel.params
    place_of = {p.name: number_of[p.size] if p.kind == "size" else next(buffers) for p in params if p.blocks is None}
    places = tuple(
        place_of[p.name] if p.blocks is None else blocks_argument(p, p.blocks, place_of, sizes) for p in params
    )
    scratch = launcher.scratch_bytes * programs(grid)
    return BoundLaunch(step.name, launcher, grid, places, next(behind) if scratch else None, scratch, step.gathers)


def _explained(launch: BoundLaunch, act: Action) -> Action:
    """``act``, which on the CPU fails where an index is out of range: it can be said where in the model."""

    def act_and_explain() -> None:
        try:
            act()
        except KernelError as error:
            if not isinstance(error.__cause__, DeviceAssertion):
                raise
            raise OutOfRangeError(str(error.__cause__), where=", ".join(launch.gathers)) from error

    return act_and_explain


def _logged(launch: BoundLaunch, act: Action) -> Action:
    def act_and_say() -> None:
        _LOG.debug("launch %s, %s programs", launch.name, " x ".join(map(str, launch.grid)))
        act()

    return act_and_say


def _last_used(plan: Plan, step: int) -> tuple[int, ...]:
    return tuple(b.number for b in plan.buffers if b.home == "aten" and b.last == step)


def _then_drop(act: Action, frame: Frame, dead: tuple[int, ...]) -> Action:
    if not dead:
        return act

    def act_and_drop() -> None:
        act()
        for number in dead:
            frame.drop(number)

    return act_and_drop
