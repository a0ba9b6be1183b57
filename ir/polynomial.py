"""Sums and products of expressions."""

from __future__ import annotations

from functools import lru_cache

from rooftile.ir.expr import Atom, Expr, FloorDiv, Monomial, Size, Symbol, atom_key, from_terms, only_atom, terms_of


def add(a: Size, b: Size) -> Size:
    """``a + b``, with ``(t // n) * n + t % n`` joined to ``t``."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _add(a, b)


@lru_cache(maxsize=65536)
def _add(a: Size, b: Size) -> Size:
    terms = terms_of(a)
    for monomial, coefficient in terms_of(b).items():
        terms[monomial] = terms.get(monomial, 0) + coefficient
    return _join_divisions(from_terms(terms))


def mul(a: Size, b: Size) -> Size:
    """``a * b``."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return _mul(a, b)


@lru_cache(maxsize=65536)
def _mul(a: Size, b: Size) -> Size:
    terms: dict[Monomial, int] = {}
    for left, c in terms_of(a).items():
        for right, d in terms_of(b).items():
            product = tuple(sorted(left + right, key=atom_key))
            terms[product] = terms.get(product, 0) + c * d
    return _join_divisions(from_terms(terms))


def product(sizes: tuple[Size, ...] | list[Size]) -> Size:
    """The product of ``sizes``; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = mul(total, size)
    return total


def linear_in(size: Expr, atom: Atom) -> tuple[Size | None, Size]:
    """``(c, r)`` with ``size == c * atom + r``, neither holding ``atom``; ``c`` is None where that fails."""
    coefficient: Size = 0
    rest: Size = 0
    for monomial, c in size.terms:
        count = monomial.count(atom)
        if count > 1:
            return None, size
        if count == 1:
            others = tuple(a for a in monomial if a != atom)
            coefficient = add(coefficient, from_terms({others: c}))
        else:
            rest = add(rest, from_terms({monomial: c}))
    return coefficient, rest


def _join_divisions(size: Size) -> Size:
    """Undo divisions that what stands beside them makes whole again, until none is left.

    ``c * R * n * (x // n) + c * R * (x % n)`` is ``c * R * x``, and ``c * n * R * (s // n)`` is ``c * R * s`` where
    ``n`` divides the symbol ``s``.
    """
    if isinstance(size, int):
        return size
    for monomial, coefficient in size.terms:
        for position, atom in enumerate(monomial):
            if isinstance(atom, Symbol):
                continue
            others = monomial[:position] + monomial[position + 1 :]
            if isinstance(atom, FloorDiv):
                whole = _exact_multiple(atom, coefficient)
                if whole is not None:
                    rest = from_terms({m: c for m, c in size.terms if m != monomial})
                    return add(rest, mul(from_terms({others: 1}), whole))
                continue
            rest = from_terms({others: coefficient})
            partner = terms_of(mul(mul(rest, atom.den), atom.num // atom.den))
            mine = dict(size.terms)
            if partner and all(mine.get(m) == c for m, c in partner.items()):
                del mine[monomial]
                for m in partner:
                    del mine[m]
                return add(from_terms(mine), mul(rest, atom.num))
    return size


def _exact_multiple(atom: FloorDiv, coefficient: int) -> Size | None:
    """``coefficient * (s // n)`` without its division, where ``n`` divides the symbol ``s`` and the coefficient."""
    divided = only_atom(atom.num)
    if not isinstance(atom.den, int) or coefficient % atom.den or not isinstance(divided, Symbol):
        return None
    return mul(atom.num, coefficient // atom.den) if divided.divisor % atom.den == 0 else None
