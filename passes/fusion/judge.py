"""What a region would be: one kernel at a price, or none for a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from rooftile.ir.core import Graph
from rooftile.passes.alike import Alike
from rooftile.passes.derive import Derivation, are_permitted, derive
from rooftile.passes.fusion.resweep import fewest_sweeps
from rooftile.passes.regions.access import NoCommonSpace
from rooftile.passes.regions.cost import Cost, cost
from rooftile.passes.regions.forms import Reason, Unschedulable
from rooftile.passes.rules import mixing, positions
from rooftile.passes.schedules.choice import may_be_unschedulable, schedule_region
from rooftile.target import Target

# What makes of a reduction that no tile can hold reductions that one can.
REWRITES = (positions.apply, mixing.apply)


@dataclass(frozen=True)
class Verdict:
    """What a region would be: how it is ``made`` and its price, or the reason why it is ``refused``. Where
    this was found out about a region that it is ``like``, ``derivation`` and ``reason`` say it of this one; where that
    one reads other parts of tensors, ``anew`` judges this one for itself, which ``derivation`` then asks."""

    made: Derivation | None
    price: Cost | None
    refused: Reason | None
    like: Alike | None = None
    anew: Callable[[], Verdict] | None = None

    @cached_property
    def derivation(self) -> Derivation | None:
        if self.anew is not None and self.made is not None:
            return self.anew().derivation
        return self.made if self.made is None or self.like is None else _derivation_of(self.like, self.made)

    @cached_property
    def reason(self) -> Reason | None:
        return self.refused if self.refused is None or self.like is None else _reason_of(self.like, self.refused)

    def once(self) -> Verdict:
        """The same for a region that is run once: calls pay nothing for it."""
        return self if self.price is None else replace(self, price=replace(self.price, bytes=0, seconds=0.0))

    @property
    def seconds(self) -> float:
        return self.price.seconds if self.price else float("inf")

    @property
    def bytes(self) -> int:
        return self.price.bytes if self.price else 0


def _reason_of(like: Alike, reason: Reason) -> Reason:
    return Reason(reason.rule, like.values.get(reason.value, reason.value), like.text(reason.text))


def _derivation_of(like: Alike, found: Derivation) -> Derivation:
    return Derivation(like.new.outputs[-1].name, like.graph(found.body), found.access, like.steps(found.steps))


def judge(body: Graph, target: Target) -> Verdict:
    """Compose, derive, schedule and price a candidate region."""
    try:
        outcome = _schedulable(derive(body), target)
        if isinstance(outcome, Reason):
            return Verdict(None, None, outcome)
        outcome, reread = fewest_sweeps(outcome, target)
        return Verdict(outcome, cost(outcome.access, target, reread), None)
    except NoCommonSpace as error:
        return Verdict(None, None, Reason("axes", error.value, str(error)))


def _schedulable(outcome: Derivation | Reason, target: Target) -> Derivation | Reason:
    """``outcome`` with what no tile can hold rewritten until roles are found."""
    while isinstance(outcome, Derivation) and may_be_unschedulable(outcome.access):
        try:
            schedule_region(outcome.body, target)
            return outcome
        except Unschedulable as error:
            reduction = error.reason.reduction
            attempts = (rule(outcome.body, reduction) for rule in REWRITES if reduction is not None)
            rewritten = next((a for a in attempts if a is not None and are_permitted(outcome.body, a[1])), None)
            if rewritten is None:
                return error.reason
        body, steps = rewritten
        outcome = derive(body, (*outcome.steps, *steps))
    return outcome
