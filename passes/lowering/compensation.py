"""Running sums that carry what their additions rounded away, so that a long sweep is as exact as a single addition.

With numbers far from zero the last bits of a running sum are what matters: the mean of a row around 1000 is subtracted
from all of it. What an addition loses is known exactly (Knuth's TwoSum) and goes in with the next part. That takes a
few operations for each row and step, and is done where a sweep waits for memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Value
from rooftile.ir.dtypes import F32
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.regions.access import Read
from rooftile.passes.regions.contractions import contractions


def compensated(kernel: Kernel, members: Sequence[Read]) -> list[Read]:
    """The members of a sweep whose states have a second one, of what was lost: the sums that nothing corrects."""
    if contractions(kernel.access):
        return []
    return [m for m in members if m not in kernel.sweeps.corrected and _is_long_sum(kernel, m)]


def _is_long_sum(kernel: Kernel, read: Read) -> bool:
    op = kernel.access.nodes[read].op
    return op is not None and op.attrs.get("fn") == "sum" and read.value.dtype is F32


def add(kernel: Kernel, total: Value, lost: Value, part: Value, block: Block) -> tuple[Value, Value]:
    """``total + (part + lost)``, and what this rounds away; nothing is lost of what is no finite number."""

    def of(fn: str, *operands: Value) -> Value:
        return kernel.pointwise(fn, operands, block)

    part = of("add", part, lost)
    new = of("add", total, part)
    taken = of("sub", new, total)
    rest = of("add", of("sub", total, of("sub", new, taken)), of("sub", part, taken))
    zero = kernel.number(0.0, F32, block)
    return new, of("where", of("eq", of("sub", rest, rest), zero), rest, zero)
