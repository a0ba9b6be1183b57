"""A schedule put in the place of the one that ``tile`` chose: what a tuner and a test of one schedule need."""

from __future__ import annotations

from dataclasses import replace

from rooftile.ir.core import Op, freeze_attrs
from rooftile.ir.schedule import OPTIONS, Schedule


def rescheduled(op: Op, schedule: Schedule) -> Op:
    """The region op with ``schedule``, and not lowered yet; ``Lower().lower`` gives it its kernel. What was told of its
    mask for other tiles is left out."""
    op = untold(op)
    kept = {name: value for name, value in op.attrs.items() if name not in OPTIONS}
    return replace(op, attrs=freeze_attrs({**kept, **schedule.attrs()}), regions=op.regions[:1])


def untold(op: Op) -> Op:
    """The region op without what it is told of its mask: with the operands of its body alone."""
    attrs = freeze_attrs({name: value for name, value in op.attrs.items() if name != "visits"})
    return replace(op, inputs=op.inputs[: len(op.regions[0].inputs)], attrs=attrs)


def with_tiles(schedule: Schedule, **tiles: int) -> Schedule:
    """``schedule`` with other tiles for the named axes."""
    return replace(schedule, axes=tuple(replace(a, tile=tiles.get(a.name, a.tile)) for a in schedule.axes))
