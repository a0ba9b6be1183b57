"""The states that a sweep carries: how they start, what one more tile does to them, how they follow one another."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Value
from rooftile.ir.scalar import COMBINES
from rooftile.passes.lowering import compensation
from rooftile.passes.lowering.contractions import contract
from rooftile.passes.lowering.corrections import Changes, is_added, may_stand_for_none, usable
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.reductions import identity_value, reduce
from rooftile.passes.regions.access import Read


def identity(kernel: Kernel, read: Read, block: Block) -> Value:
    """The start of a reduction's state."""
    op, axes = kernel.access.nodes[read].op, kernel.held(kernel.access.free[read])
    assert op is not None
    if op.name == "contract":
        return kernel.add(block, "constant", (), {"value": 0.0, "dtype": op.attrs["acc"], "axes": axes})
    dtype, row = read.value.dtype, COMBINES[op.attrs["fn"]]
    value = 0 if row.position else identity_value(row, dtype)
    return kernel.add(block, "constant", (), {"value": value, "dtype": dtype, "axes": axes})


def run_members(kernel: Kernel, members: Sequence[Read], state: Sequence[Value], body: Block) -> list[Value]:
    """Every member's state after one more tile, then what each compensated one has lost; members that depend on others
    see these's new states."""
    before, start, states = body.within(), body.within(), dict(zip(members, state, strict=False))
    lost = dict(zip(compensation.compensated(kernel, members), state[len(members) :], strict=True))
    changes = Changes(kernel, before, body, start, (body, start))
    ends: list[Value] = []
    for member, old in states.items():
        if member in kernel.sweeps.corrected:
            old = changes.corrected(member, states)
        correction = kernel.sweeps.corrected.get(member)
        if member in lost:
            part = reduce(kernel, kernel.access.nodes[member], body)
            new, lost[member] = compensation.add(kernel, old, lost[member], part, body)
        elif correction is None or correction.extreme is None:
            new = _step(kernel, member, old, body)
        else:
            extreme = members.index(correction.extreme)
            new = _position(kernel, member, old, (state[extreme], ends[extreme]), body)
        ends.append(new)
        if is_reference(kernel, member):
            was, now = (kernel.cast(value, member.value.dtype, body) for value in (states[member], new))
            before.known[member] = was
            start.known[member] = usable(kernel, was, member, body) if is_added(kernel, member) else was
            body.known[member] = usable(kernel, now, member, body)
            for block in (before, start, body):
                block.running.add(member)
    return [*ends, *lost.values()]


def run_again(kernel: Kernel, members: Sequence[Read], state: Sequence[Value], body: Block) -> list[Value]:
    """Every member's state after one more tile, where what all are computed from is known."""
    return [_step(kernel, member, old, body) for member, old in zip(members, state, strict=True)]


def _position(kernel: Kernel, read: Read, old: Value, extreme: tuple[Value, Value], body: Block) -> Value:
    """Where the extreme stands, given what it was and is: in this tile, if that changed it. A NaN, which no other
    follows, stays where it was first."""
    node, (was, now) = kernel.access.nodes[read], extreme
    first = kernel.add(body, "first", (), {"axis": node.bound[0]})
    place = kernel.pointwise("add", [first, kernel.cast(reduce(kernel, node, body), first.dtype, body)], body)
    changed = kernel.pointwise("ne", [was, now], body)
    if was.dtype.is_float:
        known = kernel.pointwise("eq", [was, was], body)
        changed = kernel.pointwise("and", [changed, known], body)
    return kernel.pointwise("where", [changed, kernel.cast(place, old.dtype, body), old], body)


def settle(kernel: Kernel, members: Sequence[Read], state: Sequence[Value], block: Block) -> None:
    """Make the results of a sweep known in ``block``. Where a reference is still no number, what was computed with
    another in its place becomes what it is without."""
    usable_ones = block.within()
    states = dict(zip(members, state, strict=True))
    changes = Changes(kernel, usable_ones, block, usable_ones, (usable_ones,))
    for member, end in states.items():
        correction, known = kernel.sweeps.corrected.get(member), kernel.cast(end, member.value.dtype, block)
        if correction is not None and any(r in usable_ones.running for r in correction.references):
            known = kernel.cast(changes.corrected(member, states), member.value.dtype, block)
        block.known[member] = known
        if is_reference(kernel, member):
            usable_ones.known[member] = usable(kernel, known, member, block)
            if usable_ones.known[member] is not known or may_stand_for_none(kernel, member):
                usable_ones.running.add(member)


def is_reference(kernel: Kernel, member: Read) -> bool:
    """Whether a state is corrected as that of ``member`` changes."""
    return any(member in c.references for c in kernel.sweeps.corrected.values())


def _step(kernel: Kernel, read: Read, state: Value, body: Block) -> Value:
    """The state after one more tile."""
    node = kernel.access.nodes[read]
    assert node.op is not None
    if node.op.name == "contract":
        return contract(kernel, node, body, state)
    part = reduce(kernel, node, body)
    return kernel.pointwise(COMBINES[node.op.attrs["fn"]].scalar, [state, part], body)
