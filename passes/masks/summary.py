"""What is known of a mask that is data before a sweep: which steps of each program's tile it leaves, told by numbers
that are computed before, and in which of them it hides nothing.

Which parts of a predicate can be told for a whole tile is decided here; ``verdicts`` computes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rooftile.ir.expr import symbols
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.masks.elements import needs
from rooftile.passes.masks.predicates import All, AtLeast, Predicate, Predicates, Some, Unknown
from rooftile.passes.masks.ranges import Sweep
from rooftile.passes.masks.skipping import Mask, Skipping, skipping
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.sweeps import Sweeps


@dataclass(frozen=True)
class Summary:
    """A mask over ``axis`` that is told by tiles of ``cuts``: the grid's axes that it varies along, and ``axis``.

    ``masks`` are those of which a step can be told to hide nothing throughout.
    """

    access: Access
    axis: str
    cuts: Mapping[str, AxisRole]
    predicates: Predicates
    found: Skipping
    masks: tuple[Mask, ...]


@dataclass
class Telling:
    """What can be told of a predicate for tiles of the axes ``cuts``, before the region runs."""

    access: Access
    predicates: Predicates
    cuts: Mapping[str, AxisRole]
    _known: dict[Read, bool] = field(default_factory=dict)

    def parts(self, predicate: Predicate) -> Iterator[AtLeast | Unknown]:
        """The parts of a predicate that can be told."""
        if isinstance(predicate, (All, Some)):
            for part in predicate.parts:
                yield from self.parts(part)
        elif self.tells(predicate):
            yield predicate

    def tells(self, part: AtLeast | Unknown) -> bool:
        """Whether a comparison, or what a boolean holds, can be told."""
        if self.axes(part) - self.cuts.keys():
            return False
        return all(self._is_there(read) for read in self.reads(part))

    def axes(self, part: AtLeast | Unknown) -> frozenset[str]:
        """The axes that a part varies along."""
        return self.predicates.axes_of(part.size) if isinstance(part, AtLeast) else self.access.free[part.read]

    def reads(self, part: AtLeast | Unknown) -> list[Read]:
        """The values of the region in a part."""
        if isinstance(part, Unknown):
            return [part.read]
        return [read for s in symbols(part.size) if (read := self.predicates.read_of(s)) is not None]

    def _is_there(self, read: Read) -> bool:
        """Whether a value can be computed beforehand, at any index, and without the region's products."""
        if read not in self._known:
            known = set(self.access.body.inputs) | self.access.body.producers().keys()
            ops = self.access.body.producers()
            values = needs(self.access, read)
            heavy = any(v in ops and ops[v].name == "contract" for v in values)
            indices = self.access.index_reads(read).values()
            plain = not read.guard and read.value in known and not heavy
            self._known[read] = plain and all(self._is_there(index) for index in indices)
        return self._known[read]


def summary(sweeps: Sweeps, axis: str, schedule: Schedule) -> Summary | None:
    """What can be told of the mask of all reductions over ``axis``, which share one sweep; None where that is nothing,
    or nothing that the bounds of a loop don't tell."""
    access = sweeps.access
    members = [read for read in access.reductions() if axis in access.nodes[read].bound]
    predicates = Predicates(access)
    found = skipping(access, members, axis, predicates, numbers=True)
    if found is None:
        return None
    cuts = {a.name: a for a in schedule.axes if a.role == "grid" or a.name == axis}
    telling = Telling(access, predicates, cuts)
    parts = list(telling.parts(found.live))
    sweep = Sweep(predicates, axis, access.axes[axis], schedule.role(axis).tile, throughout=False)
    if not any(_is_data(part, telling, sweep) for part in parts):
        return None
    masks = tuple(mask for mask in found.masks.values() if _is_told(mask.bare, telling)) if schedule.phases > 1 else ()
    told = [*parts, *(part for mask in masks for part in telling.parts(mask.bare))]
    varying = frozenset().union(*(telling.axes(part) for part in told)) | {axis}
    return Summary(access, axis, {n: cut for n, cut in cuts.items() if n in varying}, predicates, found, masks)


def _is_told(predicate: Predicate, telling: Telling) -> bool:
    if isinstance(predicate, (All, Some)):
        return all(_is_told(part, telling) for part in predicate.parts)
    return telling.tells(predicate)


def _is_data(part: AtLeast | Unknown, telling: Telling, sweep: Sweep) -> bool:
    """Whether a part is told by what is loaded along the swept axis, so that no bounds follow from it."""
    if sweep.axis not in telling.axes(part) or not telling.reads(part):
        return False
    return isinstance(part, Unknown) or not sweep.solves(part.size)
