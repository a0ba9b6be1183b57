"""A mask over tiles, as ops on whole tensors: in which tiles it may leave something, in which it hides nothing, and the
order in which a sweep visits them.

A comparison is told by the least and the greatest of what it compares over each tile: documents that are numbered in
order overlap in a pair of tiles, or don't. What is no comparison of integers is looked at element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from typing import TypeAlias

from rooftile.ir.core import Graph, Value
from rooftile.ir.division import divides
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Expr, Size, axis, from_terms, terms_of
from rooftile.ir.polynomial import add, mul
from rooftile.ir.visits import ENDS, row_length
from rooftile.passes.masks.elements import Elements, Over, count
from rooftile.passes.masks.predicates import LOWEST, All, AtLeast, Predicate, Some, Unknown
from rooftile.passes.masks.summary import Summary, Telling
from rooftile.passes.regions.access import Read

Verdict: TypeAlias = Value | bool  # over the tiles of all axes, or the same in all of them


def visits(summary: Summary, elements: Elements) -> Graph:
    """The graph that gives, for each tile of the axes that a mask varies along, the tiles of the swept axis: those in
    which the mask hides nothing, those in which it may, the others. The numbers of the first, and of the first two
    together, stand before them."""
    b, telling = elements.builder, Telling(summary.access, summary.predicates, summary.cuts)
    parts = (part for each in (summary.found.live, *(m.bare for m in summary.masks)) for part in telling.parts(each))
    tiles = _Tiles(elements, telling, [part for part in parts if isinstance(part, Unknown)])
    live = tiles.full(tiles.told(summary.found.live, throughout=False))
    bare = [tiles.told(mask.bare, throughout=True) for mask in summary.masks]
    bare += [tiles.whole(summary.axis)] if bare else []
    kind = b.pointwise("where", live, b.constant(1, I32), b.constant(2, I32))
    if bare and (joined := tiles.both("and", bare)) is not False:
        kind = b.pointwise("where", tiles.full(joined), b.constant(0, I32), kind)
    # What is combined over elements, and the kinds that it tells, are stored: each tile's by a program of its own, and
    # not all again in every program.
    return b.finish([*tiles.reduced, kind, _in_order(elements, kind, count(summary.cuts[summary.axis]))])


def _in_order(elements: Elements, kind: Value, steps: Size) -> Value:
    """The steps by kind, and by number where that is the same: each goes where as many stand before it."""
    b = elements.builder
    number = b.op("iota", (), {"size": steps, "dtype": I32})
    width = b.cast(b.number(steps), I32)
    key = b.pointwise("add", b.pointwise("mul", kind, width), number)
    rows, rank = key.shape[:-1], key.type.rank
    pairs = (*rows, steps, steps)
    mine, others = (b.expand(key, pairs, (*range(rank - 1), d)) for d in (rank - 1, rank))
    place = b.reduce("sum", b.cast(b.pointwise("lt", others, mine), I32), [rank])
    slots = (*rows, row_length(steps), steps)
    slot = b.op("iota", (), {"size": row_length(steps), "dtype": I32})
    at = b.pointwise("add", b.expand(place, slots, (*range(rank - 1), rank)), b.constant(ENDS, I32))
    here = b.pointwise("eq", at, b.expand(slot, slots, (rank - 1,)))
    chosen = b.pointwise("where", here, b.expand(number, slots, (rank,)), b.constant(0, I32))
    result = b.reduce("sum", chosen, [rank])
    for last in range(ENDS):
        total = b.reduce("sum", b.cast(b.pointwise("le", kind, b.constant(last, I32)), I32), [rank - 1], keepdim=True)
        in_front = b.pointwise("eq", slot, b.constant(last, I32))
        result = b.pointwise("where", in_front, total, result, name="visits")
    return result


@dataclass
class _Tiles:
    """Verdicts on predicates, with a dimension for the tiles of each axis that is cut. ``looked_at`` are all parts that
    are looked at element by element, ``reduced`` what was combined over the elements of tiles."""

    elements: Elements
    telling: Telling
    looked_at: Sequence[Unknown]
    reduced: list[Value] = field(default_factory=list)
    counted: dict[Read, dict[tuple[str, float] | None, Value]] = field(default_factory=dict)

    def told(self, predicate: Predicate, *, throughout: bool) -> Verdict:
        """Whether the predicate holds ``throughout`` a tile, or may hold in it."""
        match predicate:
            case All(parts):
                return self.both("and", [self.told(part, throughout=throughout) for part in parts])
            case Some(parts):
                return self.both("or", [self.told(part, throughout=throughout) for part in parts])
        if not self.telling.tells(predicate):
            return not throughout
        if isinstance(predicate, AtLeast):
            return self._at_least(predicate.size, throughout=throughout)
        return self._looked_at(predicate, throughout=throughout)

    def both(self, fn: str, verdicts: Sequence[Verdict]) -> Verdict:
        """Verdicts joined by ``and`` or ``or``."""
        decides = fn == "or"
        if decides in [v for v in verdicts if isinstance(v, bool)]:
            return decides
        values = [v for v in verdicts if isinstance(v, Value)]
        return reduce(lambda a, b: self.elements.builder.pointwise(fn, a, b), values) if values else not decides

    def full(self, verdict: Verdict) -> Value:
        """A verdict as a tensor over all tiles."""
        if isinstance(verdict, Value):
            return verdict
        b = self.elements.builder
        held = b.pointwise("eq", b.constant(int(verdict), I32), b.constant(1, I32))
        return self._spread(held, ())

    def whole(self, name: str) -> Verdict:
        """Which tiles of an axis lie within its extent."""
        cut, b = self.elements.cuts[name], self.elements.builder
        if divides(cut.tile, cut.extent):
            return True
        last = add(cut.extent, -cut.tile)
        return self._spread(b.pointwise("le", self._first(name), self.elements.size(last)), (name,))

    def _at_least(self, size: Size, *, throughout: bool) -> Verdict:
        """Whether the greatest value of ``size`` in a tile, or the least, is not negative: that of each of the parts
        that vary along other axes, added up."""
        b, parts = self.elements.builder, self._by_axes(size)
        ends = [self._end(part, over, highest=not throughout) for over, part in parts.items()]
        return b.pointwise("ge", reduce(lambda x, y: b.pointwise("add", x, y), ends), b.constant(0, I64))

    def _by_axes(self, size: Size) -> dict[Over, Size]:
        """The terms of ``size`` that vary along the same axes."""
        found: dict[Over, Size] = {}
        for monomial, coefficient in terms_of(size).items():
            term = from_terms({monomial: coefficient})
            over = self.elements.over(self.telling.predicates.axes_of(term))
            found[over] = add(found.get(over, 0), term)
        return found

    def _end(self, size: Size, over: Over, *, highest: bool) -> Value:
        """The greatest or the least value of ``size`` in each tile of the axes ``over``."""
        b, e = self.elements.builder, self.elements
        factor = size.terms[0][1] if isinstance(size, Expr) and len(over) == 1 else 0
        if over and size == axis(over[0], e.cuts[over[0]].extent) * factor:
            at = self._last(over[0]) if highest == (factor > 0) else self._first(over[0])
            return self._spread(b.pointwise("mul", at, b.constant(factor, I64)), over)
        if next(iter(terms_of(size).values()), 0) < 0:
            return b.pointwise("neg", self._end(mul(size, -1), over, highest=not highest))
        values, inside = e.number(size, over), e.inside(over)
        if inside is not None:
            values = b.pointwise("where", inside, values, b.constant(LOWEST if highest else -LOWEST, I64))
        return self._spread(self._reduced("max" if highest else "min", values, over), over)

    def _first(self, name: str) -> Value:
        """The first position of each tile of an axis."""
        cut, b = self.elements.cuts[name], self.elements.builder
        tile = b.op("iota", (), {"size": count(cut), "dtype": I64})
        return b.pointwise("mul", tile, b.constant(cut.tile, I64))

    def _last(self, name: str) -> Value:
        """The last position of each tile of an axis that is within its extent."""
        cut, b = self.elements.cuts[name], self.elements.builder
        last = b.pointwise("add", self._first(name), b.constant(cut.tile - 1, I64))
        return b.pointwise("minimum", last, self.elements.size(add(cut.extent, -1)))

    def _looked_at(self, part: Unknown, *, throughout: bool) -> Verdict:
        """Whether all elements of a tile, or any, are as ``part`` says: as many as there are, or more than none."""
        b, over = self.elements.builder, self.elements.over(self.telling.axes(part))
        counted = self._spread(self._counted(part.read, over)[part.test], over)
        if throughout == part.negated:
            return b.pointwise("eq" if part.negated else "gt", counted, b.constant(0, I64))
        total = reduce(lambda x, y: b.pointwise("mul", x, y), (self._length(name) for name in over))
        return b.pointwise("lt" if part.negated else "eq", counted, total)

    def _counted(self, read: Read, over: Over) -> dict[tuple[str, float] | None, Value]:
        """For each of the tests that a value is put to, how many elements of each tile pass: one sum has them all, as
        digits, so that the value is read once."""
        if read not in self.counted:
            b, e = self.elements.builder, self.elements
            base = 2 * prod(e.cuts[name].tile for name in over)
            value, inside = e.value(read)[0], e.inside(over)
            tests = list(dict.fromkeys(part.test for part in self.looked_at if part.read == read))
            digits = [b.cast(self._passes(value, test, inside), I64) for test in tests]
            scaled = [b.pointwise("mul", x, b.constant(base**n, I64)) if n else x for n, x in enumerate(digits)]
            total = self._reduced("sum", reduce(lambda x, y: b.pointwise("add", x, y), scaled), over)
            higher = [b.pointwise("floordiv", total, b.constant(base**n, I64)) for n in range(len(tests))]
            found = [b.pointwise("mod", x, b.constant(base, I64)) for x in higher]
            self.counted[read] = dict(zip(tests, found, strict=True))
        return self.counted[read]

    def _passes(self, value: Value, test: tuple[str, float] | None, inside: Value | None) -> Value:
        b = self.elements.builder
        if test is not None:
            fn, number = test
            wanted = b.constant(number if value.dtype.is_float else int(number), value.dtype)
            value = b.pointwise(fn, value, wanted)
        return value if inside is None else b.pointwise("and", value, inside)

    def _length(self, name: str) -> Value:
        """How many positions each tile of an axis has, over the tiles of all axes."""
        b = self.elements.builder
        if divides(self.elements.cuts[name].tile, self.elements.cuts[name].extent):
            return self._spread(b.constant(self.elements.cuts[name].tile, I64), ())
        apart = b.pointwise("sub", self._last(name), self._first(name))
        return self._spread(b.pointwise("add", apart, b.constant(1, I64)), (name,))

    def _reduced(self, fn: str, value: Value, over: Over) -> Value:
        """The elements of each tile combined."""
        result = self.elements.builder.reduce(fn, value, self.elements.lanes(over))
        self.reduced.append(result)
        return result

    def _spread(self, value: Value, over: Over) -> Value:
        """A value with a dimension for the tiles of each of the axes ``over``, over those of all axes."""
        cuts = self.elements.cuts
        shape, dims = [count(cut) for cut in cuts.values()], [n for n, name in enumerate(cuts) if name in over]
        return value if len(dims) == len(shape) else self.elements.builder.expand(value, shape, dims)
