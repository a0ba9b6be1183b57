"""Exact integer arithmetic for sizes and indices: what an expression is, and how it prints.

A ``Size`` is an ``int`` or an ``Expr``: a polynomial with integer coefficients over *atoms*. An atom is a ``Symbol``
(a size that is known only at run time, or an axis of an iteration space), or a floor division or a modulus that could
not be simplified away. Everything is immutable and in a canonical form, so that equal expressions compare equal and
print alike.

The point is simplification under range facts: an axis knows that ``0 <= a < extent``, so that ``(a * 64 + b) // 64``
becomes ``a`` where ``b < 64``, and ``(t // n) * n + t % n`` becomes ``t``. Extents may be symbolic. Sums and products
are in ``polynomial``, quotients and remainders in ``division``, what can be proved in ``ranges``, values for symbols in
``substitution``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias


@dataclass(frozen=True)
class Symbol:
    """A run-time size (``extent is None``), ``lo <= s <= hi`` a multiple of ``divisor``; or an axis of an extent."""

    name: str
    extent: Size | None = None
    lo: int = 0
    hi: int | None = None
    divisor: int = 1

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class FloorDiv:
    """``num // den``, rounding to minus infinity; ``den`` is positive."""

    num: Expr
    den: Size

    def __str__(self) -> str:
        return f"{_factor(self.num)} // {_factor(self.den)}"


@dataclass(frozen=True)
class Mod:
    """``num % den`` with the sign of ``den``, which is positive."""

    num: Expr
    den: Size

    def __str__(self) -> str:
        return f"{_factor(self.num)} % {_factor(self.den)}"


Atom: TypeAlias = Symbol | FloorDiv | Mod
Monomial: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True)
class Expr:
    """A sum of ``coefficient * product of atoms``; build it with the operators, never by hand."""

    terms: tuple[tuple[Monomial, int], ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.terms))

    def __hash__(self) -> int:
        return self._hash

    # The modules that compute are made of expressions, so the operators import them when they are used.

    def __add__(self, other: Size) -> Size:
        from rooftile.ir.polynomial import add

        return add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Size) -> Size:
        from rooftile.ir.polynomial import mul

        return mul(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + other * -1

    def __rsub__(self, other: Size) -> Size:
        return other + self * -1

    def __floordiv__(self, other: Size) -> Size:
        from rooftile.ir.division import floordiv

        return floordiv(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        from rooftile.ir.division import floordiv

        return floordiv(other, self)

    def __mod__(self, other: Size) -> Size:
        from rooftile.ir.division import mod

        return mod(self, other)

    def __rmod__(self, other: Size) -> Size:
        from rooftile.ir.division import mod

        return mod(other, self)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            body = _term_text(monomial, coefficient)
            if coefficient < 0:
                text += f" - {body}" if text else f"-{body}"
            else:
                text += f" + {body}" if text else body
        return text

    __repr__ = __str__


Size: TypeAlias = int | Expr
_NONE: frozenset[str] = frozenset()


def _term_text(monomial: Monomial, coefficient: int) -> str:
    """A term without its sign; a division needs no parentheses where it stands alone."""
    if coefficient == 1 and len(monomial) == 1:
        return str(monomial[0])
    factors = [str(a) if isinstance(a, Symbol) else f"({a})" for a in monomial]
    if abs(coefficient) != 1 or not factors:
        factors.append(str(abs(coefficient)))
    return " * ".join(factors)


def _factor(size: Size) -> str:
    text = str(size)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


@lru_cache(maxsize=65536)
def atom_key(atom: Atom) -> tuple[int, str]:
    """What the atoms of a product are sorted by."""
    return (0 if isinstance(atom, Symbol) else 1, str(atom))


def _monomial_key(item: tuple[Monomial, int]) -> tuple[int, tuple[tuple[int, str], ...]]:
    return (-len(item[0]), tuple(atom_key(a) for a in item[0]))


def from_terms(terms: Mapping[Monomial, int]) -> Size:
    """The sum of ``{product of atoms: coefficient}``, in canonical form: the inverse of ``terms_of``."""
    kept = [(m, c) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Expr(tuple(sorted(kept, key=_monomial_key)))


def terms_of(size: Size) -> dict[Monomial, int]:
    """The terms of ``size`` as ``{product of atoms: coefficient}``; a constant stands under the empty product."""
    if isinstance(size, int):
        return {(): size} if size else {}
    return dict(size.terms)


def of(atom: Atom) -> Expr:
    """The expression that is just ``atom``."""
    return Expr((((atom,), 1),))


def symbol(name: str, *, lo: int = 0, hi: int | None = None, divisor: int = 1) -> Expr:
    """A size known at run time: ``lo <= s <= hi`` and ``divisor`` divides it."""
    return of(Symbol(name, None, lo, hi, divisor))


def axis(name: str, extent: Size) -> Expr:
    """An axis of an iteration space, running over ``0 .. extent - 1``."""
    return of(Symbol(name, extent))


def only_atom(size: Size) -> Atom | None:
    """The atom that ``size`` is, where it is just that: the inverse of ``of``."""
    if isinstance(size, int) or len(size.terms) != 1:
        return None
    ((monomial, coefficient),) = size.terms
    return monomial[0] if coefficient == 1 and len(monomial) == 1 else None


def atoms(size: Size) -> Iterator[Atom]:
    """Every atom in ``size``, those inside divisions and moduli (and their divisors) included, outermost first."""
    if isinstance(size, int):
        return
    for monomial, _ in size.terms:
        for atom in monomial:
            yield atom
            if not isinstance(atom, Symbol):
                yield from atoms(atom.num)
                yield from atoms(atom.den)


def symbols(size: Size) -> frozenset[Symbol]:
    """The symbols that occur in ``size``: run-time sizes and axes (not those inside the extents of the axes)."""
    return _symbols(size) if isinstance(size, Expr) else frozenset()


@lru_cache(maxsize=65536)
def _symbols(size: Expr) -> frozenset[Symbol]:
    return frozenset(a for a in atoms(size) if isinstance(a, Symbol))


def symbol_names(size: Size) -> frozenset[str]:
    """The names of ``symbols(size)``."""
    return _symbol_names(size) if isinstance(size, Expr) else _NONE


@lru_cache(maxsize=65536)
def _symbol_names(size: Expr) -> frozenset[str]:
    return frozenset(s.name for s in _symbols(size))


def size_symbols(size: Size) -> frozenset[Symbol]:
    """The run-time sizes in ``size``, those in the extents of its axes included."""
    found: set[Symbol] = set()
    for s in symbols(size):
        if s.extent is None:
            found.add(s)
        else:
            found |= size_symbols(s.extent)
    return frozenset(found)
