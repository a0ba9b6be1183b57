"""Rows that no tile holds are swept: by as few sweeps as the rules allow, each further one with its reason.

``derive`` knows no sizes, and whether a row is swept at all is a matter of size. So this is asked once a region's
schedule is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rooftile.ir.core import Graph, Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.derive import Derivation
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import space_of
from rooftile.passes.regions.sweeps import Sweeps, plan_sweeps
from rooftile.passes.rules import correct, linear
from rooftile.passes.rules.scales import Scales
from rooftile.passes.rules.steps import Step
from rooftile.passes.schedules.choice import schedule_region
from rooftile.target import Target


@dataclass(frozen=True)
class Reread:
    """One more sweep over a row: the rule that would save it, what it computes or stores, and why that has to wait."""

    rule: str
    read: Read
    text: str
    bytes: int


@dataclass(frozen=True)
class Swept:
    """A region of reductions as its schedule sweeps it."""

    access: Access
    schedule: Schedule
    sweeps: Sweeps

    @staticmethod
    def of(body: Graph, target: Target) -> Swept:
        """The sweeps of ``body`` by its first schedule.

        Raises:
            Unschedulable: it has none.
        """
        schedule = schedule_region(body, target)
        access = compose(body, space_of(schedule))
        loops = [a.name for a in schedule.axes if a.role == "loop"]
        return Swept(access, schedule, plan_sweeps(access, loops))

    @property
    def loops(self) -> list[str]:
        """The axes that are swept."""
        return [a.name for a in self.schedule.axes if a.role == "loop"]

    @property
    def waits(self) -> int:
        """How many sweeps reductions wait for, all together."""
        return sum(sum(numbers.values()) for numbers in self.sweeps.number.values())

    def rereads(self) -> list[Reread]:
        """Every sweep over a row beyond the first."""
        return [again for name in self.loops for again in (*self._late(name), *self._stored(name))]

    def _late(self, name: str) -> Iterator[Reread]:
        late = {numbers[name]: r for r, numbers in self.sweeps.number.items() if numbers.get(name)}
        for read in late.values():
            text = f"%{read.value.name} takes another sweep over {name}: {self._why_late(read)}"
            yield Reread("correct", read, text, self._bytes(name))

    def _why_late(self, read: Read) -> str:
        other = self.sweeps.behind.get(read)
        if other is not None:
            return f"it needs one over {other} that needs the first"
        blocked = self.sweeps.blocked.get(read, read)
        of = ", ".join(sorted(f"%{r.value.name}" for r in self.sweeps.depends[blocked] - {blocked}))
        return f"how %{blocked.value.name} changes with {of} is nothing that its state can be corrected by"

    def _stored(self, name: str) -> Iterator[Reread]:
        extent, count = self.access.axes[name], self.sweeps.count(name)
        for _, read in self.access.roots:
            if name in self.access.free[read] and self.sweeps.level[read].get(name, 0) >= count > 0:
                text = f"%{read.value.name} is stored in another sweep over {name}: no tile holds a row of {extent}"
                yield Reread("roles", read, text, self._bytes(name))

    def _bytes(self, name: str) -> int:
        """What one sweep over axis ``name`` reads."""
        loads = {load.value for load in self.access.loads() if name in self.access.free[load]}
        return sum(likely(value.type.bytes) for value in loads)


def fewest_sweeps(derivation: Derivation, target: Target) -> tuple[Derivation, int]:
    """``derivation`` with factors taken out of sums where that saves a sweep, and the bytes that the sweeps beyond the
    first read again."""
    if contractions(derivation.access) or not derivation.access.reductions():
        return derivation, 0
    body, steps = derivation.body, derivation.steps
    swept = Swept.of(body, target)
    while (better := _with_less_waiting(body, swept, target)) is not None:
        body, more, swept = better
        steps += more
    if not swept.loops:
        return derivation, 0
    corrected = swept.sweeps.corrected.items()
    steps += tuple(correct.step(swept.sweeps.access, read, correction) for read, correction in corrected)
    return Derivation(derivation.value, body, compose(body), steps), sum(again.bytes for again in swept.rereads())


def _with_less_waiting(body: Graph, swept: Swept, target: Target) -> tuple[Graph, tuple[Step, ...], Swept] | None:
    """``body`` with an invariant factor taken out of a sum that waits for another sweep, where fewer then wait."""
    scales = Scales(swept.access)
    for op in _late_ops(body, swept):
        rewritten = linear.apply(body, op, split=False, leaves=scales.leaves)
        if rewritten is not None:
            attempt = Swept.of(rewritten[0], target)
            if attempt.waits < swept.waits:
                return *rewritten, attempt
    return None


def _late_ops(body: Graph, swept: Swept) -> list[Op]:
    late = {swept.access.nodes[r].op for r in swept.sweeps.late() if r in swept.access.nodes}
    return [op for op in body.ops if op in late]
