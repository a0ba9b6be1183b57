"""The order of a kernel's ops: what no loop needs stands behind the loops, and holds no registers while they run."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Op, Value
from rooftile.ir.tile_ops import values_read


def behind_loops(ops: Sequence[Op]) -> list[Op]:
    """``ops`` in an order as good, with those that neither a loop nor a store needs behind the last loop; but for what
    tells where tiles lie, a few scalars, some of which are on their way from memory while loops run."""
    last = max((number for number, op in enumerate(ops) if op.name == "loop"), default=-1)
    first = max((number for number, op in enumerate(ops) if op.name == "place"), default=-1)
    needed: set[Value] = set()
    before: list[Op] = []
    behind: list[Op] = []
    for op in reversed(ops[first + 1 : last + 1]):
        if op.name in ("loop", "store") or needed.intersection(op.outputs):
            needed.update(values_read(op))
            before.append(op)
        else:
            behind.append(op)
    return [*ops[: first + 1], *reversed(before), *reversed(behind), *ops[last + 1 :]]
