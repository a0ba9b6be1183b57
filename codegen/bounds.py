"""How large an index can get: intervals of size expressions, which decide between 32-bit and 64-bit arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from rooftile.ir.expr import Atom, FloorDiv, Mod, Monomial, Size, Symbol, terms_of
from rooftile.ir.ranges import LARGEST_SIZE

INT32_END = 2**31


@dataclass(frozen=True)
class Range:
    """The closed interval ``low .. high``; the ends may be infinite."""

    low: float
    high: float

    @property
    def fits_int32(self) -> bool:
        return self.low >= -INT32_END and self.high < INT32_END

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        ends = [_times(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(ends), max(ends))


ANY_INT64 = Range(-inf, inf)


def _times(a: float, b: float) -> float:
    return 0 if a == 0 or b == 0 else a * b


def range_of(size: Size, known: Mapping[str, Range]) -> Range:
    """The interval in which ``size`` lies; ``known`` gives those of some symbols, their own facts the rest's."""
    total = Range(0, 0)
    for monomial, coefficient in terms_of(size).items():
        total += range_of_term(monomial, coefficient, known)
    return total


def range_of_term(monomial: Monomial, coefficient: int, known: Mapping[str, Range]) -> Range:
    """The interval of one term of a size."""
    result = Range(coefficient, coefficient)
    for atom in monomial:
        result *= _range_of_atom(atom, known)
    return result


def _range_of_atom(atom: Atom, known: Mapping[str, Range]) -> Range:
    if isinstance(atom, Symbol):
        return known[atom.name] if atom.name in known else range_of_symbol(atom)
    den = range_of(atom.den, known)
    if isinstance(atom, Mod):
        return Range(0, den.high - 1)
    return _quotient(atom, den, known)


def _quotient(atom: FloorDiv, den: Range, known: Mapping[str, Range]) -> Range:
    num, least = range_of(atom.num, known), max(den.low, 1)
    return Range(min(num.low, 0) / least - 1, max(num.high, 0) / least)


def range_of_symbol(symbol: Symbol) -> Range:
    """The interval of a run-time size or of an axis."""
    if symbol.extent is not None:
        return Range(0, max(range_of(symbol.extent, {}).high - 1, 0))
    return Range(symbol.lo, LARGEST_SIZE if symbol.hi is None else symbol.hi)
