"""The states that a sweep carries: how they start, what one more tile does to them, how they follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rooftile.ir.core import Value
from rooftile.ir.scalar import COMBINES
from rooftile.passes.lowering.contractions import contract
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.reductions import identity_value, reduce
from rooftile.passes.regions.access import Read
from rooftile.passes.rules.correct import Correction


def identity(kernel: Kernel, read: Read, block: Block) -> Value:
    """The start of a reduction's state."""
    op, axes = kernel.access.nodes[read].op, kernel.held(kernel.access.free[read])
    assert op is not None
    if op.name == "contract":
        return kernel.add(block, "constant", (), {"value": 0.0, "dtype": op.attrs["acc"], "axes": axes})
    dtype = read.value.dtype
    value = identity_value(COMBINES[op.attrs["fn"]], dtype)
    return kernel.add(block, "constant", (), {"value": value, "dtype": dtype, "axes": axes})


def run_members(kernel: Kernel, members: Sequence[Read], state: Sequence[Value], body: Block) -> list[Value]:
    """Every member's state after one more tile; members that depend on others see these's new states."""
    before = body.within()
    changes: dict[Correction, Value] = {}
    ends: list[Value] = []
    for member, old in zip(members, state, strict=True):
        if member in kernel.sweeps.corrected:
            correction = replace(kernel.sweeps.corrected[member], references=frozenset())
            if correction not in changes:
                changes[correction] = _change(kernel, correction, body, before)
            fn = "mul" if correction.kind == "factor" else "add"
            old = kernel.pointwise(fn, [old, kernel.cast(changes[correction], old.dtype, body)], body)
        new = _step(kernel, member, old, body)
        ends.append(new)
        if any(member in c.references for c in kernel.sweeps.corrected.values()):
            before.known[member] = kernel.cast(state[len(ends) - 1], member.value.dtype, body)
            body.known[member] = _never_identity(kernel, kernel.cast(new, member.value.dtype, body), member, body)
            before.running.add(member)
            body.running.add(member)
    return ends


def _step(kernel: Kernel, read: Read, state: Value, body: Block) -> Value:
    """The state after one more tile."""
    node = kernel.access.nodes[read]
    assert node.op is not None
    if node.op.name == "contract":
        return contract(kernel, node, body, state)
    part = reduce(kernel, node, body)
    return kernel.pointwise(COMBINES[node.op.attrs["fn"]].scalar, [state, part], body)


def _never_identity(kernel: Kernel, state: Value, read: Read, block: Block) -> Value:
    """``state``, or 0 where it is still an infinity that stands for no element: nothing computed with it counts
    yet."""
    op = kernel.access.nodes[read].op
    assert op is not None
    identity = identity_value(COMBINES[op.attrs["fn"]], state.dtype) if op.name == "reduce" else 0.0
    if identity not in (float("inf"), float("-inf")):
        return state
    none, zero = (kernel.number(x, state.dtype, block) for x in (identity, 0.0))
    return kernel.pointwise("where", [kernel.pointwise("eq", [state, none], block), zero, state], block)


def _change(kernel: Kernel, correction: Correction, body: Block, before: Block) -> Value:
    """What corrected states are multiplied by, or have added, as the references go from what ``before`` knows to
    what ``body`` knows."""
    total: Value | None = None
    for sign, reads in correction.terms:
        new, old = (_product(kernel, reads, block) for block in (body, before))
        difference = kernel.pointwise("sub", [new, old] if sign > 0 else [old, new], body)
        total = difference if total is None else kernel.pointwise("add", [total, difference], body)
    assert total is not None
    return kernel.pointwise(correction.fn, [total], body) if correction.kind == "factor" else total


def _product(kernel: Kernel, reads: Sequence[Read], block: Block) -> Value:
    total = kernel.emit(reads[0], block)
    for read in reads[1:]:
        total = kernel.pointwise("mul", [total, kernel.emit(read, block)], block)
    return total
