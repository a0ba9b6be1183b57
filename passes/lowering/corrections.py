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
from rooftile.passes.masks.values import LARGEST, Interval, Values
from rooftile.passes.regions.access import Read, is_extreme
from rooftile.passes.rules.changes import Part, Term, Terms, reads_of
from rooftile.passes.rules.correct import Moment


class Changes:
    """What states are corrected by as their references go from what block ``old`` knows to what ``new`` does.

    ``finite`` are the blocks in which references are usable. In ``old`` they may be no numbers yet, which is right for
    an extreme in an exponent, since states are 0 as long; what ``start`` knows are the numbers that were used in their
    place.
    """

    def __init__(self, kernel: Kernel, old: Block, new: Block, start: Block, finite: Sequence[Block]) -> None:
        self.kernel, self.old, self.new, self.start, self.finite = kernel, old, new, start, finite
        self.differences: dict[Terms, Value] = {}
        self.parts: dict[Part, Value] = {}
        self.reads: dict[tuple[Read, int], Value] = {}

    def corrected(self, member: Read, states: Mapping[Read, Value]) -> Value:
        """The state of ``member`` after the change, from all states before."""
        correction, total = self.kernel.sweeps.corrected[member], states[member]
        if correction.moments:
            total = self._moved(total, correction.moments, states)
        if correction.terms:
            total = self._pointwise("add", total, self.difference(correction.terms))
        if correction.parts:
            by = self._product([self.part(p) for p in correction.parts])
            changed = self._pointwise("mul", total, by)
            total = changed if self.start is self.old else self._unless_nothing(member, total, changed)
        return total

    def _unless_nothing(self, member: Read, total: Value, changed: Value) -> Value:
        """``changed``, or the state ``total`` where that is one of no elements yet, which a factor may make NaN."""
        if is_extreme(self.kernel.access.nodes[member]):
            return self._unless("eq", total, identity_of(self.kernel, member), total, changed)
        parts = self.kernel.sweeps.corrected[member].parts
        vanishing = all(p.fn and not any(from_numbers(self.kernel, t) for t in p.terms) for p in parts)
        return changed if vanishing else self._unless("eq", total, 0.0, total, changed)

    def _moved(self, total: Value, moments: Sequence[Moment], states: Mapping[Read, Value]) -> Value:
        """A sum of products whose factors are shifted, by the sums without these factors."""
        shifts = list(dict.fromkeys(terms for moment in moments for terms in moment.differences))
        if len(shifts) > 1 or len({len(m.differences) for m in moments}) < len(moments):
            parts = [self._product([self._sums(m, states), *map(self.difference, m.differences)]) for m in moments]
            return self._sum([total, *parts])
        by, inner = self.difference(shifts[0]), None
        for moment in sorted(moments, key=lambda m: -len(m.differences)):
            sums = self._sums(moment, states)
            inner = sums if inner is None else self._pointwise("add", sums, self._times(inner, by))
        assert inner is not None
        return self._pointwise("add", total, self._times(inner, by))

    def _times(self, sums: Value, by: Value) -> Value:
        """``sums * by``; behind the sweep ``by`` may be no number, which changes nothing where nothing was summed."""
        result = self._pointwise("mul", sums, by)
        if self.start is not self.old:
            return result
        for factor in (sums, by):
            result = self._unless("eq", factor, 0.0, self.kernel.number(0.0, result.dtype, self.new), result)
        return result

    def _sums(self, moment: Moment, states: Mapping[Read, Value]) -> Value:
        state = states[moment.sum]
        if moment.times == 1:
            return state
        return self._pointwise("mul", state, self.kernel.number(moment.times, state.dtype, self.new))

    def _unless(self, fn: str, value: Value, than: float, result: Value, otherwise: Value) -> Value:
        """``result`` where the comparison ``fn`` of ``value`` with a number holds."""
        limit = self.kernel.number(than, value.dtype, self.new)
        holds = self.kernel.pointwise(fn, [value, limit], self.new)
        return self.kernel.pointwise("where", [holds, result, otherwise], self.new)

    def difference(self, terms: Terms) -> Value:
        """What the sum of ``terms`` grows by, from the numbers that were used."""
        if terms not in self.differences:
            self.differences[terms] = self._sum([self._grown(term, self.start) for term in terms])
        return self.differences[terms]

    def _exponent(self, term: Term) -> Value:
        """What ``term`` grows by: nothing where it is as infinite as before, or a choice made a number of extremes that
        were those of nothing."""
        old = self.start if from_numbers(self.kernel, term) else self.old
        grown, still = self._grown(term, old), self._is_still(term, old)
        if still is None:
            return grown
        return self.kernel.pointwise("where", [still, self.kernel.number(0.0, grown.dtype, self.new), grown], self.new)

    def _grown(self, term: Term, old: Block) -> Value:
        after, before = self._term(term, self.new), self._term(term, old)
        return self._pointwise("sub", *((after, before) if term.sign > 0 else (before, after)))

    def _is_still(self, term: Term, old: Block) -> Value | None:
        if from_numbers(self.kernel, term):
            return self._pointwise("eq", self._term(term, self.new), self._term(term, old))
        extremes = {e: None for r in term.reads if makes_choices(self.kernel, r) for e in self._running_extremes(r)}
        still: Value | None = None
        for extreme in extremes:
            start = self.kernel.number(identity_of(self.kernel, extreme), extreme.value.dtype, self.new)
            nothing = self.kernel.pointwise("eq", [old.known[extreme], start], self.new)
            still = nothing if still is None else self.kernel.pointwise("and", [still, nothing], self.new)
        return still

    def _running_extremes(self, read: Read) -> list[Read]:
        running = self.kernel.sweeps.depends[read] & self.old.running
        return [r for r in self.kernel.access.reductions() if r in running and is_extreme(self.kernel.access.nodes[r])]

    def part(self, part: Part) -> Value:
        """A factor of the change."""
        if part not in self.parts:
            if part.fn:
                exponent = self._sum([self._exponent(term) for term in part.terms])
                value = self.kernel.pointwise(part.fn, [exponent], self.new)
            else:
                (term,) = part.terms
                new, old = self._term(term, self.new), self._term(term, self.start)
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
        key = (read, id(block))
        if key not in self.reads:
            value = self.kernel.emit(read, block)
            if block in self.finite:
                value = block.known[read] = self._finite(read, value, sign, block)
            self.reads[key] = value
        return self.reads[key]

    def _finite(self, read: Read, value: Value, sign: int, block: Block) -> Value:
        """The number that stands in the place of ``value`` while that is none: what was reduced so far says nothing of
        it yet."""
        if starts_infinite(self.kernel, read):
            return replaced(self.kernel, value, "eq", sign * inf, 0.0, block)
        if not starts_undefined(self.kernel, read):
            return value
        size = self.kernel.pointwise("abs", [value], block)
        bounded = self.kernel.pointwise("lt", [size, self.kernel.number(inf, value.dtype, block)], block)
        zero = self.kernel.number(0.0, value.dtype, block)
        return self.kernel.pointwise("where", [bounded, value, zero], block)

    def _product(self, values: Sequence[Value]) -> Value:
        return self._all("mul", values)

    def _sum(self, values: Sequence[Value]) -> Value:
        return self._all("add", values)

    def _all(self, fn: str, values: Sequence[Value]) -> Value:
        total = values[0]
        for value in values[1:]:
            total = self._pointwise(fn, total, value)
        return total

    def _pointwise(self, fn: str, a: Value, b: Value) -> Value:
        return self.kernel.pointwise(fn, [a, self.kernel.cast(b, a.dtype, self.new)], self.new)


def starts_infinite(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` stands in an exponent and may be infinite so far: the logarithm of nothing is."""
    exponents = {r for c in kernel.sweeps.corrected.values() for p in c.parts if p.fn for r in reads_of(p.terms)}
    return read in exponents and _may_be_none(kernel, read)


def starts_undefined(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` is only subtracted from what is summed, and may be no number so far: the mean of nothing is
    NaN."""
    corrections = kernel.sweeps.corrected.values()
    exponents = {r for c in corrections for p in c.parts for r in reads_of(p.terms)}
    shifts = {
        r for c in corrections for t in (c.terms, *(d for m in c.moments for d in m.differences)) for r in reads_of(t)
    }
    return read in shifts - exponents and _may_be_none(kernel, read)


def _may_be_none(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` is computed from sums, or may be no finite number where the extremes that it is computed from
    are the numbers that stand for those of nothing."""
    below = references(kernel, read)
    used = {r: 1.0 if is_scale(kernel, r) else 0.0 for r in below}
    of_extremes = all(is_extreme(kernel.access.nodes[r]) for r in below)
    return bool(below) and not (of_extremes and _is_bounded(_interval(kernel, read, used)))


def from_numbers(kernel: Kernel, term: Term) -> bool:
    """Whether what ``term``, which stands in an exponent, grows by is told from the number that was used in its place:
    while it is none, states need not be 0, or an exponential of its growth is not."""
    return any(starts_infinite(kernel, r) for r in term.reads) or _misleads_at_start(kernel, term)


def _misleads_at_start(kernel: Kernel, term: Term) -> bool:
    """Whether ``term`` is made of extremes of nothing to what is no number, or so infinite that the exponential of what
    it grows by is not 0."""
    below = {r for read in reads_of((term,)) for r in references(kernel, read)}
    if not all(is_extreme(kernel.access.nodes[r]) for r in below):
        return False
    start = {r: identity_of(kernel, r) for r in below}
    intervals = [_interval(kernel, read, start) for read in reads_of((term,))]
    unbounded = [interval for interval in intervals if not _is_bounded(interval)]
    negative = any(_is_bounded((low, high)) and low < 0 for low, high in intervals)
    return bool(unbounded) and (negative or any(each != (term.sign * inf, term.sign * inf) for each in unbounded))


def _is_bounded(interval: Interval) -> bool:
    return all(abs(end) <= LARGEST for end in interval)


def _interval(kernel: Kernel, read: Read, states: Mapping[Read, float]) -> Interval:
    """The interval of ``read`` where reductions are ``states``."""
    return Values(kernel.access, "", {r: (x, x) for r, x in states.items()}).interval(read)


def references(kernel: Kernel, read: Read) -> frozenset[Read]:
    """The reductions below ``read`` that others are corrected by."""
    every = frozenset().union(*(c.references for c in kernel.sweeps.corrected.values()))
    return kernel.sweeps.depends[read] & every


def may_stand_for_none(kernel: Kernel, member: Read) -> bool:
    """Whether something that is computed from the state of ``member`` may be no number."""
    above = [r for r in kernel.access.nodes if member in kernel.sweeps.depends[r]]
    return any(starts_infinite(kernel, r) or starts_undefined(kernel, r) for r in above)


def makes_choices(kernel: Kernel, read: Read) -> bool:
    """Whether a choice stands between ``read`` and the reductions that it is computed from."""
    node = kernel.access.nodes[read]
    if node.op is None or node.bound or not references(kernel, read):
        return False
    chooses = node.op.name == "pointwise" and SCALARS[node.op.attrs["fn"]].chooses
    return chooses or any(makes_choices(kernel, o) for o in node.operands)


def is_added(kernel: Kernel, read: Read) -> bool:
    """Whether states are corrected by adding something as the reduction ``read`` changes, or by dividing."""
    corrections = (c for c in kernel.sweeps.corrected.values() if read in c.references)
    return any(c.terms or c.moments or c.scales for c in corrections)


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
