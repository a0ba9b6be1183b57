"""The schedules that are worth a measurement for regions that share a launch: they are chosen for all at once.

What a launch has one of, such as warps, is the same for all. Matrix products follow the tiles of the one that is the
most work, or take half of them; of rows of products, each has its own best with so many warps. The regions in launches
of their own are a candidate too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.launches import can_share
from rooftile.passes.regions.cost import cost
from rooftile.passes.schedules.alike import Products
from rooftile.passes.schedules.candidates import candidates
from rooftile.passes.schedules.choice import schedule_region
from rooftile.target import Target


@dataclass(frozen=True)
class Together:
    """The choice to run regions, in their order, by these schedules: in one launch, where they can share one."""

    schedules: tuple[Schedule, ...]

    def __str__(self) -> str:
        return " beside ".join(map(str, self.schedules)) + ("" if self.is_shared else ", in launches of their own")

    @property
    def is_shared(self) -> bool:
        """Whether the schedules allow one launch."""
        return can_share([s.attrs() for s in self.schedules])


def candidates_together(ops: Sequence[Op], target: Target, most: int) -> tuple[Together, ...]:
    """At most ``most`` choices for ``ops``, which share a launch with the schedules that they have: these first."""
    first = Together(tuple(Schedule.from_attrs(op.attrs) for op in ops))
    apart = Together(tuple(schedule_region(op.regions[0], target) for op in ops))
    shared = [*_following(ops, first, target, most), *_alike(ops, target, most)]
    distinct: dict[str, Together] = {}
    for each in (first, *(() if apart.is_shared else (apart,)), *shared):
        distinct.setdefault(repr([s.attrs() for s in each.schedules]), each)
    return tuple(distinct.values())[:most]


def _following(ops: Sequence[Op], first: Together, target: Target, most: int) -> list[Together]:
    """Matrix products in the tiles of the one that takes the longest, for each of its candidates; and the others in
    smaller ones, which are what is left when whole waves of large ones have run."""
    products = [Products.of(op.regions[0], s) for op, s in zip(ops, first.schedules, strict=True)]
    known = [p for p in products if p is not None and p.is_matrix]
    if len(known) < len(ops):
        return []
    leader = max(known, key=lambda p: cost(p.access, target).seconds)
    body = ops[known.index(leader)].regions[0]
    leaders = (Products.of(body, s) for s in candidates(body, target, most))
    found: list[Together] = []
    for each in leaders:
        if each is not None:
            like = [p.like(each) for p in known]
            smaller = [p if known[n] is leader else p.narrower() for n, p in enumerate(like)]
            found += [Together(tuple(p.schedule for p in products)) for products in (like, smaller)]
    return [each for each in found if each.is_shared]


def _alike(ops: Sequence[Op], target: Target, most: int) -> list[Together]:
    """For each schedule of the first op, the best ones of the others that can share its launch."""
    each = [candidates(op.regions[0], target, most) for op in ops]
    found: list[Together] = []
    for start in each[0]:
        fitting = [next((s for s in rest if can_share([start.attrs(), s.attrs()])), None) for rest in each[1:]]
        if None not in fitting:
            found.append(Together((start, *(s for s in fitting if s is not None))))
    return found
