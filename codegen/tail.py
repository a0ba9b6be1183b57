"""The tiles that a persistent kernel's programs have left when each has had as many as the others: a last wave, in
which most multiprocessors would wait for a few.

Where these tiles are few, each is run in pieces, by a program each, in a loop of its own behind the other. A piece is a
tile like the others, but for its size: its elements are summed in the same order, so that nobody can tell from a result
which tiles were cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from rooftile.codegen.space import Axis, Space
from rooftile.ir.core import Graph
from rooftile.ir.schedule import option

FEWEST_COLUMNS = 16  # of a piece, which matrix units can take


@dataclass(frozen=True)
class Tail:
    """The last tiles are cut into ``count`` pieces along ``axis``."""

    axis: Axis
    count: int


def tail_of(kernel: Graph, space: Space) -> Tail | None:
    """How the kernel's schedule asks for its last tiles to be cut; None where it doesn't, or where they can't be."""
    count: int = option(kernel.attrs, "tail")
    loops = [op for op in kernel.ops if op.name == "loop"]
    if count == 1 or not loops or not option(kernel.attrs, "persistent") or option(kernel.attrs, "specialize"):
        return None
    if all(space[name].single for name in kernel.attrs["grid"]):
        return None
    results = (held for v in loops[-1].outputs if len(held := space.held(v.type)) == 2)
    axis = next((space[held[-1]] for held in results), None)
    if axis is None or axis.role != "grid" or axis.tile // count < FEWEST_COLUMNS:
        return None
    return Tail(axis, count)
