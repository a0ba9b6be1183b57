"""Sweeps that run again where numbers are infinite.

A state that is corrected as its references change is what eager has as long as all numbers are finite. Where some are
not, and rule Correct does not know (``infinities``), the states that the sweep has ended with tell: if one of them, or
what one is corrected by, is no finite number, the program computes these states once more from their references at the
end. Other programs run no step of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf

from rooftile.ir.core import Value
from rooftile.ir.steps import AGAIN
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.ragged import steps_with_rows
from rooftile.passes.lowering.states import identity
from rooftile.passes.masks.phases import Phase
from rooftile.passes.regions.access import Read
from rooftile.passes.rules.changes import behind_views, reads_of
from rooftile.passes.rules.correct import differences
from rooftile.passes.rules.infinities import is_certain

EVERY_STEP_AGAIN = Phase(AGAIN, None)


def uncertain(kernel: Kernel, members: Sequence[Read]) -> list[list[Read]]:
    """The members whose states may have to be computed again, those that need others behind these."""
    access = kernel.access
    used = {o for read, node in access.nodes.items() for o in (*node.operands, *access.index_reads(read).values())}
    used |= {root for _, root in access.roots}
    doubtful = [m for m in members if m in kernel.sweeps.corrected and m in used and not is_certain(kernel.sweeps, m)]
    levels: dict[Read, int] = {}
    for member in doubtful:
        levels[member] = 1 + max(
            (levels[r] for r in kernel.sweeps.depends[member] - {member} if r in levels), default=-1
        )
    return [[m for m in doubtful if levels[m] == level] for level in sorted(set(levels.values()))]


def is_needed(kernel: Kernel, members: Sequence[Read], swept: Block) -> Value:
    """Whether the states of ``members``, of which ``swept`` knows what they have come to, have to be computed again: as
    a scalar."""
    corrections = [kernel.sweeps.corrected[m] for m in members]
    by = [r for c in corrections for r in (*c.scales, *(r for terms in differences(c) for r in reads_of(terms)))]
    plain, found = partial(behind_views, kernel.access), None
    for read in dict.fromkeys((*members, *(r for c in corrections for r in c.references), *map(plain, by))):
        each = _has_infinities(kernel, kernel.emit(read, swept), swept)
        found = each if found is None else kernel.pointwise("or", [found, each], swept)
    assert found is not None
    return found


def steps(kernel: Kernel, name: str, needed: Value, block: Block) -> list[Value]:
    """The range of a sweep over ``name``: every step where it is needed, else none."""
    every = [kernel.add(block, "index", (), {"expr": e, "axes": ()}) for e in (0, kernel.access.axes[name])]
    first, stop = steps_with_rows(kernel, name, block) or every
    return [first, kernel.pointwise("where", [needed, stop, first], block)]


def start(kernel: Kernel, member: Read, needed: Value, swept: Block) -> Value:
    """What a state begins from: what it has come to, where it is not computed again."""
    nothing = identity(kernel, member, swept)
    ended = kernel.cast(swept.known[member], nothing.dtype, swept)
    return kernel.pointwise("where", [needed, nothing, ended], swept)


def _has_infinities(kernel: Kernel, value: Value, block: Block) -> Value:
    """Whether any element of a tile is no finite number."""
    size = kernel.pointwise("abs", [value], block)
    finite = kernel.pointwise("lt", [size, kernel.number(inf, value.dtype, block)], block)
    found = kernel.pointwise("not", [finite], block)
    axes = value.type.axes or ()
    if inside := kernel.within(axes, block):
        found = kernel.pointwise("and", [found, kernel.inside(inside, block)], block)
    for name in axes:
        found = kernel.add(block, "reduce", (found,), {"fn": "any", "axis": name})
    return found
