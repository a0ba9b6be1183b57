"""What tells a kernel which steps of a sweep to visit: a buffer, and the loops that place a tile in each step.

For each tile of the axes that a mask varies along, such a buffer has a row of i32: how many steps the mask leaves bare;
how many it leaves at all; then the numbers of the steps, those that are bare first, those that are left out last; and
one number more that nobody uses, since a loop reads the next step's before it knows whether there is one.
"""

from __future__ import annotations

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add

ENDS = 2  # the numbers before the steps'


def row_length(steps: Size) -> Size:
    """How many numbers a row has."""
    return add(steps, ENDS + 1)


def placed_axis(loop: Op) -> str | None:
    """The axis whose tile the body of a loop places, where it does: each step of such a loop is one of that axis."""
    return next((str(op.attrs["axis"]) for op in loop.regions[0].ops if op.name == "place"), None)


def visits_of(loop: Op) -> Value | None:
    """The buffer from which a loop that places tiles reads where: its body reads the next place, and hands it on."""
    body = loop.regions[0]
    handed_on = (op.inputs[0] for op in body.ops if op.name == "load" and op.output in body.outputs)
    return next(handed_on, None) if placed_axis(loop) is not None else None
