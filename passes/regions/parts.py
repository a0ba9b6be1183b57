"""Which sweeps can be cut into parts for programs of their own, and into how many.

A sweep that few programs run leaves most of the device idle. Its axis can be cut where the states at its end are all
that is needed of it, and where the state of a whole is made from those of its parts: by the reduction's own combine,
once every part's state follows its references to the whole's, as rule Correct says.
"""

from __future__ import annotations

from math import prod

from rooftile.ir.core import Op
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.scalar import COMBINES
from rooftile.passes.regions.access import Access, Read, is_extreme
from rooftile.passes.regions.sizes import likely, taken_for
from rooftile.passes.regions.sweeps import Sweeps
from rooftile.passes.rules.infinities import is_certain
from rooftile.target import Target

LEAST_PART = 256  # the shortest part whose programs do more than start and end
UNBOUNDED = 2**17  # what a run-time size counts as that nothing bounds
MOST_WAVES = 4  # with more parts, starting programs and merging costs more than even waves gain
ABOUT = 0.9  # one long program on each multiprocessor reads faster than several short ones, measured on an H100
_POWERS = [1 << n for n in range(12)]


def obstacle(sweeps: Sweeps, name: str) -> str:
    """Why the sweep over axis ``name`` can't be cut into parts; empty where it can."""
    access = sweeps.access
    for _, read in access.roots:
        if name in access.free[read] or any(s.name == name for e in read.index for s in symbols(e)):
            return f"%{read.value.name} is stored along {name}"
    for read in swept(access, name):
        reason = _obstacle(sweeps, read, name)
        if reason:
            return reason
    return ""


def swept(access: Access, name: str) -> list[Read]:
    """The reductions over axis ``name``, operands first."""
    return [read for read in access.reductions() if name in access.nodes[read].bound]


def summed(op: Op) -> list[int]:
    """What a reduction runs over: dimensions of its operand, of a contraction the numbers of its axes; none of size
    1."""
    if op.name == "contract":
        return [n for n, (a, size) in enumerate(op.attrs["axes"]) if a not in op.attrs["out"] and size != 1]
    return [d for d in op.attrs["dims"] if op.inputs[0].shape[d] != 1]


def _obstacle(sweeps: Sweeps, read: Read, name: str) -> str:
    node, correction = sweeps.access.nodes[read], sweeps.corrected.get(read)
    what = f"%{read.value.name}"
    if node.op is None or node.op not in sweeps.access.body.ops:
        return f"{what} is a sum that only corrections need"
    if node.cases or node.bound != (name,) or len(summed(node.op)) != 1:
        return f"{what} runs over more than {name}"
    plain = all(e == 0 or any(e == axis(a, n) for a, n in sweeps.access.axes.items()) for e in read.index)
    if sweeps.corrected and not plain:  # a correction is computed at these indices
        return f"%{read.value.name} is read at more than axes"
    if sweeps.number[read][name]:
        return f"{what} takes another sweep over {name}"
    if node.op.name == "reduce" and COMBINES[node.op.attrs["fn"]].position:
        return f"{what} is a position"
    if correction is not None and correction.moments:
        return f"{what} is corrected by sums that the model doesn't have"
    if correction is not None and not all(is_extreme(sweeps.access.nodes[r]) for r in correction.references):
        return f"{what} is computed with a sum over {name}, and parts of that may be zero"
    if correction is not None and not is_certain(sweeps, read):
        return f"{what} has to be computed again where numbers are infinite"
    return ""


def parts_for(extent: Size, programs: int, target: Target) -> int:
    """Into how many parts, a power of two, an axis is cut that ``programs`` programs sweep: as few as keep the device
    about as busy as any number would."""
    if target.kind == "cpu":
        return 1
    counts = [n for n in _POWERS if n == 1 or _longest(extent) >= n * LEAST_PART]
    within = [n for n in counts if n == 1 or n * programs <= MOST_WAVES * target.sm_count]
    best = max(busy(n * programs, target) for n in within)
    return next(n for n in within if busy(n * programs, target) >= ABOUT * best)


def _longest(extent: Size) -> int:
    """How long an axis may be: parts of short ones cost little, too few parts of long ones much."""
    return taken_for(extent, lambda s: s.hi or UNBOUNDED)


def busy(programs: int, target: Target) -> float:
    """The share of the device that so many programs of one length keep busy, which run in waves."""
    waves = -(-programs // target.sm_count)
    return programs / (waves * target.sm_count)


def partial_bytes(sweeps: Sweeps, name: str) -> int:
    """The bytes of one part's states: what splitting writes and reads once more for each part."""
    access = sweeps.access
    return sum(
        prod(likely(access.axes[a]) for a in access.free[read]) * read.value.dtype.bytes for read in swept(access, name)
    )
