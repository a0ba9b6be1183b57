"""The ends of a masked sweep's ranges, as scalars that each program computes from where its tile stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from rooftile.ir.core import Value
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Atom, Expr, FloorDiv, Mod, Size, Symbol, from_terms, of, symbols, terms_of
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.masks.phases import Phase
from rooftile.passes.masks.predicates import Predicates
from rooftile.passes.masks.ranges import Aligned, Bound, End, Greatest, Least, Where
from rooftile.passes.regions.access import Read

FAR = 2**40  # beyond every position, and far from where a sum of a few such would overflow


@dataclass
class Bounds:
    """Emits bounds into ``block``, each once; ``predicates`` says what their symbols stand for."""

    kernel: Kernel
    block: Block
    predicates: Predicates
    known: dict[Bound, Value] = field(default_factory=dict)

    def ranges(self, phase: Phase, members: Sequence[Read], state: Sequence[Value]) -> list[Value]:
        """The first position and the end of each of the phase's ranges; empty ones where the states let it be left
        out."""
        ends = [self.value(end) for each in phase.ranges or () for end in each]
        return self.unless_reached(ends, phase, members, state)

    def unless_reached(
        self, ends: Sequence[Value], phase: Phase, members: Sequence[Read], state: Sequence[Value]
    ) -> list[Value]:
        """``ends``, those of the phase's ranges, with each range empty where the states let it be left out."""
        skip = [self._reached(state[members.index(m)], *level) for m, level in phase.unless.items()]
        found: list[Value] = []
        for first, stop in zip(ends[::2], ends[1::2], strict=True):
            for each in skip:
                stop = self._pointwise("where", each, first, stop)
            found += (first, stop)
        return found

    def _reached(self, state: Value, low: float, high: float) -> Value:
        """Whether the whole of ``state`` lies between ``low`` and ``high``, one of which is an infinity."""
        fn, level = ("ge", low) if high == inf else ("le", high)
        holds = self._pointwise(fn, state, self.kernel.number(level, state.dtype, self.block))
        for name in holds.type.axes or ():
            holds = self.kernel.add(self.block, "reduce", (holds,), {"fn": "all", "axis": name})
        return holds

    def value(self, bound: Bound) -> Value:
        """The bound as a scalar."""
        if bound not in self.known:
            self.known[bound] = self._compute(bound)
        return self.known[bound]

    def _compute(self, bound: Bound) -> Value:
        match bound:
            case int():
                return self._index(bound)
            case End(size, highest):
                return self._end(size, highest)
            case Greatest(parts) | Least(parts):
                fn = "maximum" if isinstance(bound, Greatest) else "minimum"
                total = self.value(parts[0])
                for part in parts[1:]:
                    total = self._pointwise(fn, total, self.value(part))
                return total
            case Aligned(part, tile, up):
                raised = of(Symbol("idx1")) + (tile - 1 if up else 0)
                return self._index(raised // tile * tile, self.value(part))
            case Where(condition, then):
                holds = self._pointwise("ge", self.value(condition), self._index(0))
                return self._pointwise("where", holds, self.value(then), self._index(0))

    # The ends of a size over the tile.

    def _end(self, size: Size, highest: bool) -> Value:
        """The lowest or the highest value of ``size``: each term at its own, terms that don't vary as they are."""
        fixed: Size = 0
        ends: list[Value] = []
        for monomial, coefficient in terms_of(size).items():
            varying = [atom for atom in monomial if self._varies(of(atom))]
            rest = from_terms({tuple(a for a in monomial if a not in varying): coefficient})
            if not varying:
                fixed = add(fixed, rest)
            else:
                ends.append(self._term(varying, rest, highest))
        total = self._invariant(fixed) if fixed != 0 or not ends else ends.pop()
        for each in ends:
            total = self._pointwise("add", total, each)
        return total

    def _term(self, varying: Sequence[Atom], rest: Size, highest: bool) -> Value:
        """An end of ``rest`` times the one atom that varies; a far number where that isn't known."""
        rises, falls = at_least(rest, 0), at_least(mul(rest, -1), 0)
        if len(varying) != 1 or not (rises or falls):
            return self._index(FAR if highest else -FAR)
        value = self._atom(varying[0], highest if rises else not highest)
        return value if rest == 1 else self._pointwise("mul", value, self._invariant(rest))

    def _atom(self, atom: Atom, highest: bool) -> Value:
        if isinstance(atom, Symbol):
            read = self.predicates.read_of(atom)
            return self._axis(atom, highest) if read is None else self._reduced(read, highest)
        if self._varies(atom.den) or not at_least(atom.den, 1):
            return self._index(FAR if highest else -FAR)
        den = self._invariant(atom.den)
        if isinstance(atom, FloorDiv):
            return self._pointwise("floordiv", self.value(End(atom.num, highest)), den)
        return self._remainder(atom, den, highest)

    def _remainder(self, atom: Mod, den: Value, highest: bool) -> Value:
        """The remainder's end where the whole tile has one quotient, else the end of all remainders."""
        low, high = self.value(End(atom.num, False)), self.value(End(atom.num, True))
        same = self._pointwise("eq", *(self._pointwise("floordiv", x, den) for x in (low, high)))
        any_end = self._pointwise("sub", den, self._index(1)) if highest else self._index(0)
        return self._pointwise("where", same, self._pointwise("mod", high if highest else low, den), any_end)

    def _axis(self, symbol: Symbol, highest: bool) -> Value:
        """The first or the last position of an axis's tile that is within its extent."""
        if self.kernel.schedule.role(symbol.name).role == "whole":
            first = self._index(0)
        else:
            first = self.kernel.add(self.block, "first", (), {"axis": symbol.name})
        if not highest:
            return first
        last = self._index(of(Symbol("idx1")) + self.kernel.tiles[symbol.name] - 1, first)
        extent = self.kernel.access.axes[symbol.name]
        return self._pointwise("minimum", last, self._index(add(extent, -1)))

    def _reduced(self, read: Read, highest: bool) -> Value:
        """The least or the greatest of an integer tile."""
        value = self.kernel.cast(self.kernel.emit(read, self.block), I64, self.block)
        for name in value.type.axes or ():
            attrs = {"fn": "max" if highest else "min", "axis": name}
            value = self.kernel.add(self.block, "reduce", (value,), attrs)
        return value

    def _varies(self, size: Size) -> bool:
        return any(self.kernel.tiles[a] > 1 for a in self.predicates.axes_of(size))

    def _invariant(self, size: Size) -> Value:
        """A size that is the same all over the tile."""
        reads = {s.name: read for s in symbols(size) if (read := self.predicates.read_of(s)) is not None}
        (expr,), operands = self.kernel.with_indices([size], reads, self.block)
        return self._index(expr, *operands)

    def _index(self, size: Size | Expr, *operands: Value) -> Value:
        return self.kernel.add(self.block, "index", operands, {"expr": size, "axes": ()})

    def _pointwise(self, fn: str, *values: Value) -> Value:
        return self.kernel.pointwise(fn, values, self.block)
