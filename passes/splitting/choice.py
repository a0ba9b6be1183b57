"""A region's sweep in parts as a choice for the tuner: a kernel for the parts, and one that merges their states.

The pass ``split`` cuts where its estimates say so. Here the same cut is offered by number, to be measured.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from rooftile.ir.core import Op, freeze_attrs
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.estimate import seconds
from rooftile.passes.schedules.override import untold
from rooftile.passes.split import Split
from rooftile.passes.splitting.counts import COUNTS
from rooftile.passes.tile import Tile
from rooftile.target import Target

MOST = 3  # counts that are tried
HOPELESS = 1.5  # times what the whole is estimated to take


@dataclass(frozen=True)
class InParts:
    """The choice to cut a region's sweep into ``count`` parts, each for programs of its own."""

    count: int

    def __str__(self) -> str:
        return f"in {self.count} parts, merged"


def in_parts(op: Op, target: Target) -> tuple[InParts, ...]:
    """The counts that are worth a measurement for the region ``op``, which has a schedule, the fastest by the estimates
    first; none where its sweep can't be cut."""
    whole = _seconds(op, target)
    found = {count: sum(_seconds(each, target) for each in part_ops(op, count, target, ())) for count in COUNTS}
    able = [count for count, taken in found.items() if 0 < taken < HOPELESS * whole]
    return tuple(InParts(count) for count in sorted(able, key=lambda count: found[count])[:MOST])


def part_ops(op: Op, count: int, target: Target, taken: Collection[str]) -> tuple[Op, ...]:
    """The regions that ``op`` becomes, with their schedules: that of the parts, and that of their merging; none where
    its sweep can't be cut so. ``taken`` are the names of the graph around."""
    bare = replace(untold(op), attrs=freeze_attrs({"name": op.attrs["name"]}), regions=op.regions[:1])
    names = {*taken, str(op.attrs["name"]), *(v.name for v in (*op.inputs, *op.outputs))}
    made = Split(parts=count).split(bare, PassContext(target), names)
    return tuple(Tile().schedule_op(each, target) for each in made) if len(made) > 1 else ()


def _seconds(op: Op, target: Target) -> float:
    schedule = Schedule.from_attrs(op.attrs)
    return seconds(schedule, compose(op.regions[0], space_of(schedule)), target)
