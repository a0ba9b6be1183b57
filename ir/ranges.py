"""What can be proved about expressions from the ranges of their symbols.

A proof of ``size >= 0`` eliminates one atom at a time: the atom is put at the end of its range where ``size`` is least,
and what is left is a lower bound in fewer atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rooftile.ir.expr import Atom, Expr, FloorDiv, Mod, Monomial, Size, Symbol, symbols
from rooftile.ir.polynomial import add, linear_in, mul

# Sizes whose upper end isn't known are passed as 32-bit integers; the margin leaves room to round up to whole tiles.
LARGEST_SIZE = 2**31 - 2**20


def in_range(size: Size, extent: Size) -> bool:
    """Whether ``0 <= size < extent`` can be proved."""
    return at_least(size, 0) and at_least(add(extent, mul(size, -1)), 1)


def at_least(size: Size, bound: int) -> bool:
    """Whether ``size >= bound`` can be proved from the ranges of its symbols."""
    return _nonnegative(add(size, -bound))


def equal(a: Size, b: Size) -> bool:
    """Whether ``a`` and ``b`` are provably the same size."""
    return a == b or add(a, mul(b, -1)) == 0


def equal_shapes(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether ``a`` and ``b`` are provably the same shape."""
    return len(a) == len(b) and all(map(equal, a, b))


@lru_cache(maxsize=65536)
def _nonnegative(size: Size) -> bool:
    if isinstance(size, int):
        return size >= 0
    for atom in sorted({a for monomial, _ in size.terms for a in monomial}, key=_elimination_order):
        bounds = _lower_bounds(size, atom)
        if bounds:
            return any(_nonnegative(bound) for bound in bounds)
    return _nonnegative_above_lower_ends(size)


def _elimination_order(atom: Atom) -> tuple[int, str]:
    """Divisions first, while the symbols that they are made of still stand beside them; run-time sizes last."""
    rank = 0 if isinstance(atom, FloorDiv) else 1 if isinstance(atom, Mod) else 2 if atom.extent is not None else 3
    return rank, str(atom)


def _lower_bounds(size: Expr, atom: Atom) -> list[Size]:
    """Expressions without the factor ``atom``, each a lower bound of a positive multiple of ``size``."""
    coefficient, rest = linear_in(size, atom)
    if coefficient is None:
        return []
    if _nonnegative(coefficient):
        ends = _low_ends(atom)
    elif _nonnegative(mul(coefficient, -1)):
        ends = _high_ends(atom)
    else:
        return []
    return [add(mul(rest, scale), mul(coefficient, end)) for end, scale in ends]


def _low_ends(atom: Atom) -> list[tuple[Size, Size]]:
    """``(end, scale)`` with ``scale * atom >= end``."""
    if isinstance(atom, FloorDiv):
        above = (add(atom.num, add(1, mul(atom.den, -1))), atom.den)
        return [(0, 1), above] if _nonnegative(atom.num) else [above]
    return [(atom.lo if isinstance(atom, Symbol) else 0, 1)]


def _high_ends(atom: Atom) -> list[tuple[Size, Size]]:
    """``(end, scale)`` with ``scale * atom <= end``; none where the atom has no upper end."""
    if isinstance(atom, FloorDiv):
        highest = _highest(atom.num)
        return [(atom.num, atom.den)] + ([] if highest in (None, atom.num) else [(highest // atom.den, 1)])
    if isinstance(atom, Mod):
        below: list[tuple[Size, Size]] = [(add(atom.den, -1), 1)]
        return [*below, (atom.num, 1)] if _nonnegative(atom.num) else below
    if atom.extent is not None:
        return [(add(atom.extent, -1), 1)]
    return [] if atom.hi is None else [(atom.hi, 1)]


def _highest(size: Size) -> Size | None:
    """``size`` with each axis at the end where it is greatest; None where that isn't known."""
    axes = (s for s in symbols(size) if s.extent is not None)
    for each in sorted(axes, key=lambda s: s.name):
        coefficient, rest = linear_in(size, each) if isinstance(size, Expr) else (0, size)
        if coefficient is None or each in symbols(rest):
            return None
        if _nonnegative(coefficient):
            size = add(rest, mul(coefficient, add(each.extent or 0, -1)))
        elif _nonnegative(mul(coefficient, -1)):
            size = rest
        else:
            return None
    return size


def _nonnegative_above_lower_ends(size: Expr) -> bool:
    """Whether a polynomial over atoms ``a >= lo(a)`` has no negative coefficient after substituting ``a = lo + t``."""
    shifted: dict[Monomial, int] = {}
    for monomial, coefficient in size.terms:
        partial: dict[Monomial, int] = {(): coefficient}
        for atom in monomial:
            lo = atom.lo if isinstance(atom, Symbol) else 0
            if isinstance(atom, FloorDiv) and not _nonnegative(atom.num):
                return False
            grown: dict[Monomial, int] = {}
            for m, c in partial.items():
                grown[(*m, atom)] = grown.get((*m, atom), 0) + c
                grown[m] = grown.get(m, 0) + c * lo
            partial = grown
        for m, c in partial.items():
            shifted[m] = shifted.get(m, 0) + c
    return all(c >= 0 for c in shifted.values())
