"""Interval analysis: in which tiles of an axis a predicate may hold, and in which it holds throughout.

The answer is a list of ranges whose ends are computed by each program from where its own tile stands. For a tile of
rows ``i`` and steps of ``j``, ``i >= j`` may hold from 0 to the last row, and holds throughout to the first one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from rooftile.ir.division import floordiv
from rooftile.ir.expr import FloorDiv, Monomial, Size, Symbol, from_terms, terms_of
from rooftile.ir.polynomial import add, mul
from rooftile.passes.masks.predicates import All, AtLeast, Predicate, Predicates, Some


@dataclass(frozen=True)
class End:
    """The lowest or the highest value of ``size`` over the program's tile."""

    size: Size
    highest: bool


@dataclass(frozen=True)
class Greatest:
    """The greatest of ``parts``."""

    parts: tuple[Bound, ...]


@dataclass(frozen=True)
class Least:
    """The least of ``parts``."""

    parts: tuple[Bound, ...]


@dataclass(frozen=True)
class Aligned:
    """``part`` rounded to a multiple of ``tile``."""

    part: Bound
    tile: int
    up: bool


@dataclass(frozen=True)
class Where:
    """``then`` where ``condition`` is not negative, else 0."""

    condition: Bound
    then: Bound


Bound: TypeAlias = int | End | Greatest | Least | Aligned | Where
Range: TypeAlias = tuple[Bound, Bound]  # the first position, and the end; empty where that doesn't lie behind


def end(size: Size, highest: bool) -> Bound:
    """The lowest or the highest value of ``size``; a number is itself."""
    return size if isinstance(size, int) else End(size, highest)


def greatest(*parts: Bound) -> Bound:
    """The greatest of ``parts``, simplified."""
    numbers, others = _flat(parts, Greatest)
    flat = (*others, *([max(numbers)] if numbers else []))
    return flat[0] if len(flat) == 1 else Greatest(flat)


def least(*parts: Bound) -> Bound:
    """The least of ``parts``, simplified."""
    numbers, others = _flat(parts, Least)
    flat = (*others, *([min(numbers)] if numbers else []))
    return flat[0] if len(flat) == 1 else Least(flat)


def _flat(parts: Iterable[Bound], kind: type[Greatest] | type[Least]) -> tuple[list[int], tuple[Bound, ...]]:
    """The numbers among ``parts`` and the others, each once; a part of the same kind stands for its own."""
    flat = [each for part in parts for each in _parts(part, kind)]
    return [p for p in flat if isinstance(p, int)], tuple(dict.fromkeys(p for p in flat if not isinstance(p, int)))


def aligned(part: Bound, tile: int, *, up: bool) -> Bound:
    """``part`` rounded to a multiple of ``tile``."""
    if isinstance(part, int):
        return -(-part // tile) * tile if up else part // tile * tile
    if isinstance(part, (Greatest, Least)):  # rounding keeps the order
        join = greatest if isinstance(part, Greatest) else least
        return join(*(aligned(p, tile, up=up) for p in part.parts))
    if isinstance(part, Aligned) and part.tile == tile:
        return part
    if isinstance(part, Where):
        return Where(part.condition, aligned(part.then, tile, up=up))
    return Aligned(part, tile, up)


@dataclass(frozen=True)
class Sweep:
    """What is asked: an axis of ``extent`` in steps of ``tile``, and whether the predicate is to hold ``throughout`` a
    step or may hold in it."""

    predicates: Predicates
    axis: str
    extent: Size
    tile: int
    throughout: bool

    def ranges(self, predicate: Predicate) -> list[Range]:
        """The steps in which ``predicate`` holds, or may hold, as ranges that start and end where a tile does.

        Those in which it may hold don't overlap; those in which it holds throughout may.
        """
        if isinstance(predicate, AtLeast):
            return self._half(predicate.size)
        if isinstance(predicate, All):
            found: list[Range] = [(0, self.stop)]
            for part in predicate.parts:
                found = [both for a in found for b in self.ranges(part) if (both := _meet(a, b)) is not None]
            return found
        if isinstance(predicate, Some):
            alternatives = [each for part in predicate.parts for each in self.ranges(part)]
            return _joined(alternatives) if self.throughout else _disjoint(alternatives)
        return [] if self.throughout else [(0, self.stop)]

    @property
    def stop(self) -> Bound:
        """The end of the last step."""
        return aligned(end(self.extent, highest=True), self.tile, up=True)

    def _half(self, size: Size) -> list[Range]:
        """Where ``size >= 0``: everything on one side of a position, if ``size`` grows or falls along the axis."""
        if self.axis not in self.predicates.axes_of(size):
            return [(0, Where(end(size, highest=not self.throughout), self.stop))]
        found = self._slope(size)
        if found is None:
            return [] if self.throughout else [(0, self.stop)]
        slope, rest = found
        if slope > 0:  # j >= -rest / slope
            first = end(mul(floordiv(rest, slope), -1), highest=self.throughout)
            return [(greatest(0, aligned(first, self.tile, up=self.throughout)), self.stop)]
        stop = end(add(floordiv(rest, -slope), 1), highest=not self.throughout)
        return [(0, least(aligned(stop, self.tile, up=not self.throughout), self.stop))]

    def solves(self, size: Size) -> bool:
        """Whether ``size >= 0`` is, along the axis, everything on one side of a position."""
        return self._slope(size) is not None

    def _slope(self, size: Size) -> tuple[int, Size] | None:
        """``(slope, rest)``: ``size >= 0`` is ``slope * axis + rest >= 0``; None where it isn't of this form."""
        along: list[tuple[Monomial, int]] = []
        rest: Size = 0
        for monomial, coefficient in terms_of(size).items():
            term = from_terms({monomial: coefficient})
            if self.axis in self.predicates.axes_of(term):
                along.append((monomial, coefficient))
            else:
                rest = add(rest, term)
        if len(along) != 1 or len(along[0][0]) != 1:
            return None
        ((atom,), coefficient) = along[0]
        if isinstance(atom, Symbol):
            return (coefficient, rest) if atom.name == self.axis else None
        if not isinstance(atom, FloorDiv) or self.axis in self.predicates.axes_of(atom.den):
            return None
        if coefficient > 0:  # num // den >= q  where  num >= q * den
            least_quotient = mul(floordiv(rest, coefficient), -1)
            return self._slope(add(atom.num, mul(mul(least_quotient, atom.den), -1)))
        most = floordiv(rest, -coefficient)  # num // den <= q  where  num < (q + 1) * den
        return self._slope(add(mul(add(most, 1), atom.den), add(mul(atom.num, -1), -1)))


def _meet(a: Range, b: Range) -> Range | None:
    """What lies in both; None where that is nothing for certain."""
    first, stop = greatest(a[0], b[0]), least(a[1], b[1])
    return None if is_empty((first, stop)) else (first, stop)


def is_empty(each: Range) -> bool:
    """Whether a range is empty for certain."""
    first, stop = each
    least_first = max((p for p in _parts(first, Greatest) if isinstance(p, int)), default=0)
    most_stop = min((p for p in _parts(stop, Least) if isinstance(p, int)), default=None)
    return most_stop is not None and most_stop <= least_first


def _parts(bound: Bound, kind: type[Greatest] | type[Least]) -> tuple[Bound, ...]:
    return bound.parts if isinstance(bound, kind) else (bound,)


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges that begin or end together made one; others stay as they are."""
    found: list[Range] = []
    for first, stop in ranges:
        for number, (other_first, other_stop) in enumerate(found):
            if other_first == first:
                found[number] = (first, greatest(stop, other_stop))
                break
            if other_stop == stop:
                found[number] = (least(first, other_first), stop)
                break
        else:
            found.append((first, stop))
    return found


def _disjoint(ranges: Iterable[Range]) -> list[Range]:
    """Ranges that cover ``ranges`` and don't overlap: at most one from 0 on, and one behind it."""
    joined = _joined(ranges)
    start = next((r for r in joined if r[0] == 0), None)
    others = [r for r in joined if r is not start]
    if not others:
        return [start] if start else []
    first, stop = least(*(f for f, _ in others)), greatest(*(s for _, s in others))
    return [start, (greatest(first, start[1]), stop)] if start else [(first, stop)]


def bound_text(bound: Bound) -> str:
    """A bound as a formula over the program's tile."""
    match bound:
        case End(size, highest):
            return f"{'highest' if highest else 'lowest'}({size})"
        case Greatest(parts) | Least(parts):
            name = "max" if isinstance(bound, Greatest) else "min"
            return f"{name}({', '.join(bound_text(p) for p in parts)})"
        case Aligned(part, tile, up):
            return f"{'ceil' if up else 'floor'}({bound_text(part)}, {tile})"
        case Where(condition, then):
            return f"({bound_text(then)} if {bound_text(condition)} >= 0 else 0)"
    return str(bound)
