"""States that follow their references: rule Correct, written into a kernel.

A reference may still be no number to compute with: the maximum of nothing is minus infinity, and a scale may be zero so
far. ``usable`` and ``Changes`` put a number in its place, the same one wherever it is used, until it is one. Where it
is none at the end either, what was computed with that number is corrected to what is computed without it: NaN, as in
eager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from rooftile.ir.core import Value
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.reductions import identity_value
from rooftile.passes.regions.access import Read
from rooftile.passes.rules.changes import Part, Term, Terms, reads_of


class Changes:
    """What states are corrected by as their references go from what block ``old`` knows to what ``new`` does.

    ``finite`` is the one of the two in which references are finite.
    """

    def __init__(self, kernel: Kernel, old: Block, new: Block, finite: Block) -> None:
        self.kernel, self.old, self.new, self.finite = kernel, old, new, finite
        self.differences: dict[Terms, Value] = {}
        self.parts: dict[Part, Value] = {}

    def corrected(self, member: Read, states: Mapping[Read, Value]) -> Value:
        """The state of ``member`` after the change, from all states before."""
        correction, total = self.kernel.sweeps.corrected[member], states[member]
        for moment in correction.moments:
            by = self._product([self.difference(terms) for terms in moment.differences])
            total = self._pointwise("add", total, self._times(states[moment.sum], by, finite=False))
        if correction.terms:
            total = self._pointwise("add", total, self.difference(correction.terms))
        if correction.parts:
            by = self._product([self.part(p) for p in correction.parts])
            total = self._times(total, by, finite=all(p.fn for p in correction.parts))
        return total

    def _times(self, state: Value, by: Value, *, finite: bool) -> Value:
        """``state * by``; 0 where nothing has been added to the state yet, and ``by`` may be no number."""
        result = self._pointwise("mul", state, by)
        if finite or self.finite is self.old:
            return result
        zero = self.kernel.number(0.0, state.dtype, self.new)
        nothing = self.kernel.pointwise("eq", [state, zero], self.new)
        return self.kernel.pointwise("where", [nothing, zero, result], self.new)

    def difference(self, terms: Terms) -> Value:
        """What the sum of ``terms`` grows by."""
        if terms not in self.differences:
            total: Value | None = None
            for term in terms:
                grown = self._grown(term)
                total = grown if total is None else self._pointwise("add", total, grown)
            assert total is not None
            self.differences[terms] = total
        return self.differences[terms]

    def _grown(self, term: Term) -> Value:
        new, old = self._term(term, self.new), self._term(term, self.old)
        grown = self._pointwise("sub", *((new, old) if term.sign > 0 else (old, new)))
        still = self._is_still(term, new, old)
        if still is None:
            return grown
        return self.kernel.pointwise("where", [still, self.kernel.number(0.0, grown.dtype, self.new), grown], self.new)

    def _is_still(self, term: Term, new: Value, old: Value) -> Value | None:
        """Where ``term`` does not count as having grown: it is as infinite as before, or a choice made a number of
        extremes that were those of nothing."""
        if any(starts_infinite(self.kernel, r) for r in term.reads):
            return self._pointwise("eq", new, old)
        extremes = {e: None for r in term.reads if makes_choices(self.kernel, r) for e in self._running_extremes(r)}
        still: Value | None = None
        for extreme in extremes:
            start = self.kernel.number(identity_of(self.kernel, extreme), extreme.value.dtype, self.new)
            nothing = self.kernel.pointwise("eq", [self.old.known[extreme], start], self.new)
            still = nothing if still is None else self.kernel.pointwise("and", [still, nothing], self.new)
        return still

    def _running_extremes(self, read: Read) -> list[Read]:
        running = self.kernel.sweeps.depends[read] & self.finite.running
        return [r for r in self.kernel.access.reductions() if r in running and is_extreme(self.kernel, r)]

    def part(self, part: Part) -> Value:
        """A factor of the change."""
        if part not in self.parts:
            if part.fn:
                value = self.kernel.pointwise(part.fn, [self.difference(part.terms)], self.new)
            else:
                (term,) = part.terms
                new, old = self._term(term, self.new), self._term(term, self.old)
                value = self._pointwise("div", *((new, old) if term.sign > 0 else (old, new)))
            for fn, operand in part.through:
                operands = [value] if operand is None else [value, self.kernel.emit(operand, self.new)]
                value = self.kernel.pointwise(fn, operands, self.new)
            self.parts[part] = value
        return self.parts[part]

    def _term(self, term: Term, block: Block) -> Value:
        total = self._product([self._read(r, term.sign, block) for r in term.reads])
        for read in term.divisors:
            total = self.kernel.pointwise("div", [total, self.kernel.emit(read, block)], self.new)
        return total

    def _read(self, read: Read, sign: int, block: Block) -> Value:
        value = self.kernel.emit(read, block)
        if block is self.finite and starts_infinite(self.kernel, read):
            value = block.known[read] = replaced(self.kernel, value, "eq", sign * inf, 0.0, block)
        return value

    def _product(self, values: Sequence[Value]) -> Value:
        total = values[0]
        for value in values[1:]:
            total = self._pointwise("mul", total, value)
        return total

    def _pointwise(self, fn: str, a: Value, b: Value) -> Value:
        return self.kernel.pointwise(fn, [a, self.kernel.cast(b, a.dtype, self.new)], self.new)


def starts_infinite(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` stands in an exponent and is computed from a sum: the logarithm of nothing is infinite."""
    exponents = {r for c in kernel.sweeps.corrected.values() for p in c.parts if p.fn for r in reads_of(p.terms)}
    return read in exponents and any(not is_extreme(kernel, r) for r in kernel.sweeps.depends[read])


def makes_choices(kernel: Kernel, read: Read) -> bool:
    """Whether a choice stands between ``read`` and the reductions that it is computed from."""
    node = kernel.access.nodes[read]
    if node.op is None or node.bound or not kernel.sweeps.depends[read]:
        return False
    chooses = node.op.name == "pointwise" and SCALARS[node.op.attrs["fn"]].chooses
    return chooses or any(makes_choices(kernel, o) for o in node.operands)


def is_extreme(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` is a maximum or minimum."""
    op = kernel.access.nodes[read].op
    return op is not None and op.name == "reduce" and op.attrs["fn"] in ("max", "min")


def is_scale(kernel: Kernel, read: Read) -> bool:
    """Whether what is summed is multiplied or divided by the reduction ``read``."""
    scales = {s for c in kernel.sweeps.corrected.values() for s in c.scales}
    return any(read in kernel.sweeps.depends[s] for s in scales)


def usable(kernel: Kernel, state: Value, read: Read, block: Block) -> Value:
    """``state`` with a number in its place where it stands for no element yet: 1 for a scale that is not positive, 0
    for an infinity."""
    if is_scale(kernel, read):
        return replaced(kernel, state, "le", 0.0, 1.0, block)
    identity = identity_of(kernel, read)
    return replaced(kernel, state, "eq", identity, 0.0, block) if identity in (inf, -inf) else state


def identity_of(kernel: Kernel, read: Read) -> float:
    """What the reduction ``read`` starts from."""
    op = kernel.access.nodes[read].op
    assert op is not None
    return identity_value(COMBINES[op.attrs["fn"]], read.value.dtype) if op.name == "reduce" else 0.0


def replaced(kernel: Kernel, value: Value, fn: str, than: float, by: float, block: Block) -> Value:
    """``value``, or ``by`` where the comparison ``fn`` of it with ``than`` holds."""
    limit, instead = (kernel.number(x, value.dtype, block) for x in (than, by))
    return kernel.pointwise("where", [kernel.pointwise(fn, [value, limit], block), instead, value], block)
