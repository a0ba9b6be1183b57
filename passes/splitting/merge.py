"""Rule Merge: the state of a whole sweep from the states of its parts.

A part's state was computed with what its references were at the part's end. It is changed to what they are at the end
of all parts by the closed form of rule Correct, and then the parts are combined as elements were:
``max_j s_j = max_p m_p``, and ``sum_j exp(s_j - m) = sum_p l_p exp(m_p - m)``.

A part in which a reference is still that of no element (a maximum of minus infinity) has no state to change. It counts
as nothing, unless all parts are like it: then the result is what eager makes of a row without elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import TypeAlias

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Op, Value, unique_name
from rooftile.ir.expr import Size, axis
from rooftile.ir.scalar import COMBINES
from rooftile.ir.substitution import substitute
from rooftile.passes.lowering.reductions import identity_value
from rooftile.passes.regions.access import Read
from rooftile.passes.regions.sweeps import Sweeps
from rooftile.passes.rules.changes import Part, Term, Terms, behind_views, reads_of
from rooftile.passes.rules.correct import Correction
from rooftile.passes.splitting.copies import Copies

Axes: TypeAlias = tuple[tuple[str, Size], ...]


class Merge:
    """Writes merged states to ``builder``.

    ``states`` are the partial ones, by the ops that reduce: shape ``(parts, *shape)`` for a reduction to ``shape``.
    ``name`` is the swept axis. ``old`` copies values as they are for each part, ``new`` as they are for all.
    """

    def __init__(
        self, builder: GraphBuilder, sweeps: Sweeps, name: str, states: Mapping[Op, Value], old: Copies, new: Copies
    ) -> None:
        self.builder, self.sweeps, self.name, self.states = builder, sweeps, name, states
        self.old, self.new = old, new
        self.merged: dict[Op, Value] = {}
        self.absent: dict[tuple[frozenset[Read], Axes], Value | None] = {}
        self.factors: dict[tuple[Part, Axes], Value] = {}
        self.places: dict[tuple[Value, tuple[Size, ...], Axes], Value] = {}

    def of(self, read: Read) -> Value:
        """The merged state of the reduction ``read``."""
        op = self.sweeps.access.nodes[read].op
        assert op is not None
        if op not in self.merged:
            with self.builder.at(op.loc):
                total, correction = self.states[op], self.sweeps.corrected.get(read)
                if correction is not None:
                    total = self.corrected(read, total, correction)
                self.merged[op] = self.builder.cast(self.builder.reduce(combine_of(op), total, [0]), op.output.dtype)
        return self.merged[op]

    def corrected(self, read: Read, state: Value, correction: Correction) -> Value:
        """The partial states of ``read``, each changed to what it is with the references of the whole."""
        over = self.axes_of(correction)
        total = state
        if correction.terms:
            total = self.pointwise("add", total, self.onto(read, self.grown(correction.terms, over), over))
        for part in correction.parts:
            total = self.pointwise("mul", total, self.onto(read, self.factor(part, over), over))
        missing = self.missing(correction, over)
        if missing is None:
            return total
        op = self.sweeps.access.nodes[read].op
        assert op is not None
        nothing = self.builder.constant(identity_value(COMBINES[combine_of(op)], state.dtype), state.dtype)
        return self.builder.pointwise("where", self.onto(read, missing, over), nothing, total)

    def axes_of(self, correction: Correction) -> Axes:
        """The parts, and the axes over which a correction varies."""
        terms = (correction.terms, *(p.terms for p in correction.parts))
        operands = (o for p in correction.parts for _, o in p.through if o is not None)
        reads = (*correction.references, *operands, *(r for t in terms for r in reads_of(t)))
        free = frozenset().union(*(self.sweeps.access.free[r] for r in reads))
        named = tuple((a, n) for a, n in self.sweeps.access.axes.items() if a in free)
        return ((unique_name("p", dict(named)), self.old.cut.count), *named)

    def missing(self, correction: Correction, over: Axes) -> Value | None:
        """Where a part's references are those of no element, and the whole's are not."""
        if (correction.references, over) not in self.absent:
            self.absent[correction.references, over] = self._missing(correction, over)
        return self.absent[correction.references, over]

    def _missing(self, correction: Correction, over: Axes) -> Value | None:
        found: Value | None = None
        scales = {r for s in correction.scales for r in self.sweeps.depends[s]}
        for reference in sorted(correction.references, key=lambda r: r.value.name):
            fn, than = ("le", 0.0) if reference in scales else ("eq", self.start(reference))
            if abs(than) != inf and reference not in scales:
                continue
            part = self.compared(fn, self.aligned(self.old, reference, over), than)
            whole = self.compared(fn, self.aligned(self.new, reference, over), than)
            only = self.builder.pointwise("and", part, self.builder.pointwise("not", whole))
            found = only if found is None else self.builder.pointwise("or", found, only)
        return found

    def start(self, reference: Read) -> float:
        """What the reduction ``reference`` starts from."""
        op = self.sweeps.access.nodes[reference].op
        assert op is not None
        return identity_value(COMBINES[combine_of(op)], reference.value.dtype)

    def compared(self, fn: str, value: Value, than: float) -> Value:
        """Where ``value`` compares with a number as ``fn`` says."""
        return self.builder.pointwise(fn, value, self.builder.constant(than, value.dtype))

    def factor(self, part: Part, over: Axes) -> Value:
        """A factor of the change, from every part's references to the whole's."""
        if (part, over) not in self.factors:
            self.factors[part, over] = self._factor(part, over)
        return self.factors[part, over]

    def _factor(self, part: Part, over: Axes) -> Value:
        if part.fn:
            value = self.builder.pointwise(part.fn, self.grown(part.terms, over))
        else:
            (term,) = part.terms
            ends = self.term(term, self.new, over), self.term(term, self.old, over)
            value = self.builder.pointwise("div", *(ends if term.sign > 0 else ends[::-1]))
        for fn, operand in part.through:
            more = () if operand is None else (self.aligned(self.new, operand, over),)
            value = self.builder.pointwise(fn, value, *more)
        return value

    def grown(self, terms: Terms, over: Axes) -> Value:
        """What the sum of ``terms`` is more for the whole than for every part."""
        total: Value | None = None
        for term in terms:
            new, old = self.term(term, self.new, over), self.term(term, self.old, over)
            change = self.pointwise("sub", *((new, old) if term.sign > 0 else (old, new)))
            total = change if total is None else self.pointwise("add", total, change)
        assert total is not None
        return total

    def term(self, term: Term, copies: Copies, over: Axes) -> Value:
        """One term of a change, for all parts or for each."""
        product, *others = (self.aligned(copies, r, over) for r in term.reads)
        for other in others:
            product = self.pointwise("mul", product, other)
        for divisor in term.divisors:
            product = self.pointwise("div", product, self.aligned(copies, divisor, over))
        return product

    def pointwise(self, fn: str, a: Value, b: Value) -> Value:
        """``fn`` of two values, the second in the first's dtype."""
        return self.builder.pointwise(fn, a, self.builder.cast(b, a.dtype))

    def aligned(self, copies: Copies, read: Read, over: Axes) -> Value:
        """What ``read`` is for each position over the axes ``over``."""
        read = behind_views(self.sweeps.access, read)
        copy = copies.of(read.value, None)
        key = (copy.value, read.index, over)
        if key not in self.places:
            index = [substitute(e, {self.name: 0}) for e in read.index]
            self.places[key] = self.gathered(copy.value, (axis(*over[0]), *index) if copy.parted else index, over)
        return self.places[key]

    def onto(self, read: Read, value: Value, over: Axes) -> Value:
        """``value``, which varies over the axes ``over``, for each element of the partial states of ``read``."""
        names = [f"u{d}" if isinstance(e, int) else str(e) for d, e in enumerate(read.index)]
        axes = (over[0], *zip(names, read.value.shape, strict=True))
        return self.gathered(value, [axis(a, n) for a, n in over], axes)

    def gathered(self, value: Value, index: Sequence[Size], axes: Axes) -> Value:
        """``value`` at ``index`` over ``axes``: itself where that is all of it in order."""
        if value.shape == tuple(n for _, n in axes) and tuple(index) == tuple(axis(a, n) for a, n in axes):
            return value
        return self.builder.gather(value, (), axes, [index])


def combine_of(op: Op) -> str:
    """The reduction by which the partial results of ``op`` are combined."""
    return str(op.attrs["fn"]) if op.name == "reduce" else "sum"
