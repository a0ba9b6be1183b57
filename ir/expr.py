"""Exact integer arithmetic for sizes and indices.

A ``Size`` is an ``int`` or an ``Expr``: a polynomial with integer coefficients over *atoms*. An atom is a ``Symbol``
(a size that is known only at run time, or an axis of an iteration space), or a floor division or a modulus that could
not be simplified away. Everything is immutable and in a canonical form, so that equal expressions compare equal and
print alike.

The point of the module is simplification under range facts: an axis knows that ``0 <= a < extent``, so that
``(a * 64 + b) // 64`` becomes ``a`` where ``b < 64``, and ``(t // n) * n + t % n`` becomes ``t``. Extents may be
symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd
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

    def __add__(self, other: Size) -> Size:
        return add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Size) -> Size:
        return mul(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Size:
        return mul(self, -1)

    def __sub__(self, other: Size) -> Size:
        return add(self, mul(other, -1))

    def __rsub__(self, other: Size) -> Size:
        return add(other, mul(self, -1))

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floordiv(other, self)

    def __mod__(self, other: Size) -> Size:
        return mod(self, other)

    def __rmod__(self, other: Size) -> Size:
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
def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0 if isinstance(atom, Symbol) else 1, str(atom))


def _monomial_key(item: tuple[Monomial, int]) -> tuple[int, tuple[tuple[int, str], ...]]:
    return (-len(item[0]), tuple(_atom_key(a) for a in item[0]))


def _build(terms: Mapping[Monomial, int]) -> Size:
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
    return _join_divisions(_build(terms))


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
            product = tuple(sorted(left + right, key=_atom_key))
            terms[product] = terms.get(product, 0) + c * d
    return _join_divisions(_build(terms))


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
                    rest = _build({m: c for m, c in size.terms if m != monomial})
                    return add(rest, mul(_build({others: 1}), whole))
                continue
            rest = _build({others: coefficient})
            partner = terms_of(mul(mul(rest, atom.den), floordiv(atom.num, atom.den)))
            mine = dict(size.terms)
            if partner and all(mine.get(m) == c for m, c in partner.items()):
                del mine[monomial]
                for m in partner:
                    del mine[m]
                return add(_build(mine), mul(rest, atom.num))
    return size


def _exact_multiple(atom: FloorDiv, coefficient: int) -> Size | None:
    """``coefficient * (s // n)`` without its division, where ``n`` divides the symbol ``s`` and the coefficient."""
    if not isinstance(atom.den, int) or coefficient % atom.den or len(atom.num.terms) != 1:
        return None
    monomial, factor = atom.num.terms[0]
    if factor != 1 or len(monomial) != 1 or not isinstance(monomial[0], Symbol):
        return None
    return mul(atom.num, coefficient // atom.den) if monomial[0].divisor % atom.den == 0 else None


def _divide_term(monomial: Monomial, coefficient: int, den: Size) -> Size | None:
    """``term / den`` where ``den`` (a single term) divides it exactly, else None."""
    if isinstance(den, int):
        if coefficient % den == 0:
            return _build({monomial: coefficient // den})
        common = gcd(coefficient, den)
        for position, atom in enumerate(monomial):  # a symbol known to be a multiple keeps its quotient as an atom
            if isinstance(atom, Symbol) and atom.divisor % (den // common) == 0:
                others = monomial[:position] + monomial[position + 1 :]
                return mul(_build({others: coefficient // common}), of(FloorDiv(of(atom), den // common)))
        return None
    if len(den.terms) != 1:
        return None
    (factors, scale), left = den.terms[0], list(monomial)
    for factor in factors:
        if factor not in left:
            return None
        left.remove(factor)
    return _build({tuple(left): coefficient // scale}) if coefficient % scale == 0 else None


def _split_multiple(num: Size, den: Size) -> tuple[Size, Size]:
    """``(q, r)`` with ``num == q * den + r``, taking into ``q`` every term that ``den`` divides."""
    quotient: Size = 0
    rest: Size = 0
    for monomial, coefficient in terms_of(num).items():
        part = _divide_term(monomial, coefficient, den)
        if part is not None:
            quotient = add(quotient, part)
        elif isinstance(den, int) and not monomial:
            quotient, rest = add(quotient, coefficient // den), add(rest, coefficient % den)
        else:
            rest = add(rest, _build({monomial: coefficient}))
    if isinstance(den, Expr) and len(den.terms) > 1 and num == den:
        return 1, 0
    return quotient, rest


def floordiv(num: Size, den: Size) -> Size:
    """``num // den`` for a positive ``den``, simplified by the ranges of the axes in it."""
    if isinstance(num, int) and isinstance(den, int):
        return num // den
    return _floordiv(num, den)


@lru_cache(maxsize=65536)
def _floordiv(num: Size, den: Size) -> Size:
    if den == 1:
        return num
    quotient, rest = _split_multiple(num, den)
    if isinstance(rest, int) and isinstance(den, int):
        return add(quotient, rest // den)
    if in_range(rest, den):
        return quotient
    nested = _nested_division(rest, den)
    if nested is not None:
        return add(quotient, nested)
    rest, den = _cancel_common(rest, den)
    return add(quotient, of(FloorDiv(rest, den)) if isinstance(rest, Expr) else of(FloorDiv(Expr((((), rest),)), den)))


def _nested_division(rest: Size, den: Size) -> Size | None:
    """``(x // a) // b == x // (a * b)``, and ``(x % (a * b)) // b == (x // b) % a``."""
    if isinstance(rest, Expr) and len(rest.terms) == 1 and rest.terms[0][1] == 1 and len(rest.terms[0][0]) == 1:
        atom = rest.terms[0][0][0]
        if isinstance(atom, FloorDiv):
            return floordiv(atom.num, mul(atom.den, den))
        if isinstance(atom, Mod):
            times, left = _split_multiple(atom.den, den)
            return mod(floordiv(atom.num, den), times) if left == 0 else None
    return None


def _cancel_common(num: Size, den: Size) -> tuple[Size, Size]:
    """Divide numerator and denominator by the greatest integer that divides every coefficient of both."""
    common = 0
    for size in (num, den):
        for coefficient in terms_of(size).values():
            common = gcd(common, coefficient)
    if common <= 1:
        return num, den
    return tuple(_build({m: c // common for m, c in terms_of(s).items()}) for s in (num, den))  # type: ignore[return-value]


def mod(num: Size, den: Size) -> Size:
    """``num % den`` for a positive ``den``, simplified by the ranges of the axes in it."""
    if isinstance(num, int) and isinstance(den, int):
        return num % den
    return _mod(num, den)


@lru_cache(maxsize=65536)
def _mod(num: Size, den: Size) -> Size:
    if den == 1:
        return 0
    _, rest = _split_multiple(num, den)
    if isinstance(rest, int) and isinstance(den, int):
        return rest % den
    if in_range(rest, den):
        return rest
    if isinstance(rest, int):
        return of(Mod(Expr((((), rest),)), den))
    if len(rest.terms) == 1 and rest.terms[0][1] == 1 and len(rest.terms[0][0]) == 1:
        atom = rest.terms[0][0][0]
        if isinstance(atom, Mod) and isinstance(atom.den, int) and isinstance(den, int) and atom.den % den == 0:
            return mod(atom.num, den)
    return of(Mod(rest, den))


def in_range(size: Size, extent: Size) -> bool:
    """Whether ``0 <= size < extent`` can be proved."""
    return at_least(size, 0) and at_least(add(extent, mul(size, -1)), 1)


def at_least(size: Size, bound: int) -> bool:
    """Whether ``size >= bound`` can be proved from the ranges of its symbols."""
    return _nonnegative(add(size, -bound))


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
    coefficient, rest = _linear_in(size, atom)
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
        return [(atom.num, atom.den)] + ([] if highest in (None, atom.num) else [(floordiv(highest, atom.den), 1)])
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
        coefficient, rest = _linear_in(size, each) if isinstance(size, Expr) else (0, size)
        if coefficient is None or each in symbols(rest):
            return None
        if _nonnegative(coefficient):
            size = add(rest, mul(coefficient, add(each.extent or 0, -1)))
        elif _nonnegative(mul(coefficient, -1)):
            size = rest
        else:
            return None
    return size


def _linear_in(size: Expr, atom: Atom) -> tuple[Size | None, Size]:
    """``(c, r)`` with ``size == c * atom + r``, neither holding ``atom``; ``c`` is None where that fails."""
    coefficient: Size = 0
    rest: Size = 0
    for monomial, c in size.terms:
        count = monomial.count(atom)
        if count > 1:
            return None, size
        if count == 1:
            others = tuple(a for a in monomial if a != atom)
            coefficient = add(coefficient, _build({others: c}))
        else:
            rest = add(rest, _build({monomial: c}))
    return coefficient, rest


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


def equal(a: Size, b: Size) -> bool:
    """Whether ``a`` and ``b`` are provably the same size."""
    return a == b or add(a, mul(b, -1)) == 0


def divides(den: int, size: Size) -> bool:
    """Whether the integer ``den`` provably divides ``size``."""
    return all(
        c % den == 0 or any(isinstance(a, Symbol) and c * a.divisor % den == 0 for a in m)
        for m, c in terms_of(size).items()
    )


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


def size_symbols(size: Size) -> frozenset[Symbol]:
    """The run-time sizes in ``size``, those in the extents of its axes included."""
    found: set[Symbol] = set()
    for s in symbols(size):
        if s.extent is None:
            found.add(s)
        else:
            found |= size_symbols(s.extent)
    return frozenset(found)


def substitute(size: Size, replacement: Mapping[str, Size]) -> Size:
    """``size`` with the symbols named in ``replacement`` replaced, simplified again."""
    if isinstance(size, int):
        return size
    if not any(s.name in replacement for s in symbols(size)):
        return size
    return rebuild(size, lambda s: replacement.get(s.name, of(s)))


def rebuild(size: Size, leaf: Callable[[Symbol], Size]) -> Size:
    """``size`` computed anew with every symbol ``s`` taken as ``leaf(s)``."""
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, coefficient in size.terms:
        product: Size = coefficient
        for atom in monomial:
            product = mul(product, _rebuild_atom(atom, leaf))
        total = add(total, product)
    return total


def _rebuild_atom(atom: Atom, leaf: Callable[[Symbol], Size]) -> Size:
    if isinstance(atom, Symbol):
        return leaf(atom)
    operation = floordiv if isinstance(atom, FloorDiv) else mod
    return operation(rebuild(atom.num, leaf), rebuild(atom.den, leaf))


def evaluate(size: Size, bindings: Mapping[str, int]) -> int:
    """The value of ``size`` with every symbol bound.

    Raises:
        KeyError: a symbol has no binding.
    """
    if isinstance(size, int):
        return size
    total = 0
    for monomial, coefficient in size.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                coefficient *= bindings[atom.name]
            elif isinstance(atom, FloorDiv):
                coefficient *= evaluate(atom.num, bindings) // evaluate(atom.den, bindings)
            else:
                coefficient *= evaluate(atom.num, bindings) % evaluate(atom.den, bindings)
        total += coefficient
    return total


def product(sizes: tuple[Size, ...] | list[Size]) -> Size:
    """The product of ``sizes``; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = mul(total, size)
    return total


def ceildiv(num: Size, den: int) -> Size:
    """``num / den`` rounded up."""
    return floordiv(add(num, den - 1), den)
