"""What is wrong with a plan, found by going through its steps with nothing but the places of buffers: values that are
read before they are written, or after something else has been written over them, and operands that are not those of the
kernel.

This asks neither how long a buffer was thought to live nor how it was placed, so that it holds against both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rooftile.ir.core import Value
from rooftile.runtime.plan import Layout, Plan, Step

Kind: TypeAlias = Literal["order", "operands", "memory"]


@dataclass(frozen=True)
class PlanFault:
    """Step ``step``, called ``name``, does not get ``value``, or spoils what it reads; behind all steps, which number
    ``step``, it is the caller. ``kind`` says how, ``text`` that in words."""

    kind: Kind
    step: int
    name: str
    value: Value
    text: str


def plan_faults(plan: Plan, sizes: Mapping[str, int]) -> list[PlanFault]:
    """Every fault of a plan for one set of sizes, in the order of its steps."""
    return list(_Memory(plan, sizes, plan.layout(sizes)).faults())


@dataclass
class _Memory:
    """What each buffer holds; ``lost`` says what has been written over a buffer that held something."""

    plan: Plan
    sizes: Mapping[str, int]
    layout: Layout
    holds: dict[int, Value] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)

    def faults(self) -> Iterator[PlanFault]:
        self.holds = dict(enumerate(self.plan.graph.inputs))
        for number, step in enumerate(self.plan.steps):
            for place, value in zip(step.reads, step.op.inputs, strict=True):
                yield from self.read(number, step.name, place, value)
            yield from self.written(number, step)
        for result, value in zip(self.plan.results, self.plan.graph.outputs, strict=True):
            yield from self.read(len(self.plan.steps), "the caller", result.buffer, value)

    def read(self, number: int, name: str, place: int, value: Value) -> Iterator[PlanFault]:
        """The fault where ``value`` is wanted of buffer ``place``, and is not there."""
        if place in self.lost:
            yield PlanFault("memory", number, name, value, f"{name} reads %{value.name}, over which {self.lost[place]}")
        elif place not in self.holds:
            yield PlanFault("order", number, name, value, f"{name} reads %{value.name} before it is written")
        elif self.holds[place] != value:
            there = self.holds[place].name
            yield PlanFault("operands", number, name, value, f"{name} reads %{there}, where %{value.name} is wanted")

    def written(self, number: int, step: Step) -> Iterator[PlanFault]:
        """Let a step write its results; the faults where they lie over each other, or over what it reads."""
        for place, value in zip(step.writes, step.op.outputs, strict=True):
            over = [n for n in self.layout.offsets if n != place and self.meet(n, place)]
            for n in over:
                if n in step.reads:
                    text = f"{step.name} writes %{value.name} over %{self.holds[n].name}, which it reads"
                    yield PlanFault("memory", number, step.name, value, text)
                if n in self.holds:
                    self.lost[n] = f"{step.name} has written %{value.name}"
            self.holds[place] = value
            self.lost.pop(place, None)

    def meet(self, a: int, b: int) -> bool:
        """Whether two buffers of the arena have addresses in common."""
        offsets = self.layout.offsets
        if a not in offsets or b not in offsets:
            return False
        return offsets[a] < offsets[b] + self.bytes(b) and offsets[b] < offsets[a] + self.bytes(a)

    def bytes(self, number: int) -> int:
        return self.plan.buffers[number].bytes(self.sizes)
