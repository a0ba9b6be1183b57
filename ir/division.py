"""Quotients and remainders of expressions, rounding to minus infinity, simplified by what ``ranges`` can prove."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from rooftile.ir.expr import Expr, FloorDiv, Mod, Monomial, Size, Symbol, from_terms, of, only_atom, terms_of
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import in_range


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
    coarse = _in_steps(rest, den)
    if coarse is not None:
        steps, _, size = coarse
        return add(quotient, floordiv(steps, _over(den, size)))
    nested = _nested_division(rest, den)
    if nested is not None:
        return add(quotient, nested)
    common = gcd(*(c for size in (rest, den) for c in terms_of(size).values()))
    if common > 1:
        return add(quotient, floordiv(_over(rest, common), _over(den, common)))
    factor = _common_size(rest, den)
    if factor is not None:
        return add(quotient, floordiv(_without(rest, factor), _without(den, factor)))
    return add(quotient, of(FloorDiv(rest, den)) if isinstance(rest, Expr) else of(FloorDiv(Expr((((), rest),)), den)))


def _in_steps(num: Size, den: Size) -> tuple[Size, Size, int] | None:
    """``(x, r, g)`` with ``num == x * g + r`` and ``0 <= r < g``, where ``g`` divides ``den`` and is more than 1: then
    ``num // den`` is ``x // (den / g)``, and what ``num`` has beyond ``g`` steps no one sees."""
    if isinstance(num, int) or (isinstance(den, Expr) and len(den.terms) != 1):
        return None
    scale = den if isinstance(den, int) else den.terms[0][1]
    for size in sorted({gcd(c, scale) for m, c in num.terms if m} - {1}, reverse=True):
        steps = from_terms({m: c // size for m, c in num.terms if m and c % size == 0})
        within = from_terms({m: c for m, c in num.terms if not m or c % size})
        if steps != 0 and within != 0 and in_range(within, size):
            return steps, within, size
    return None


def _over(dividend: Size, size: int) -> Size:
    """``dividend`` divided by an integer that divides its coefficients."""
    return from_terms({m: c // size for m, c in terms_of(dividend).items()})


def _common_size(*sizes: Size) -> Symbol | None:
    """A run-time size that is a factor of every term: it is no zero where there is a quotient."""
    terms = [monomial for size in sizes for monomial in terms_of(size)]
    return next(
        (a for a in terms[0] if isinstance(a, Symbol) and a.extent is None and all(a in m for m in terms)), None
    )


def _without(dividend: Size, factor: Symbol) -> Size:
    """``dividend`` divided by a factor of its terms."""
    found = {}
    for monomial, coefficient in terms_of(dividend).items():
        at = monomial.index(factor)
        found[monomial[:at] + monomial[at + 1 :]] = coefficient
    return from_terms(found)


def _nested_division(rest: Size, den: Size) -> Size | None:
    """``(x // a) // b == x // (a * b)``, and ``(x % (a * b)) // b == (x // b) % a``."""
    atom = only_atom(rest)
    if isinstance(atom, FloorDiv):
        return floordiv(atom.num, mul(atom.den, den))
    if isinstance(atom, Mod):
        times, left = _split_multiple(atom.den, den)
        return mod(floordiv(atom.num, den), times) if left == 0 else None
    return None


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
    coarse = _in_steps(rest, den)
    if coarse is not None:
        steps, within, size = coarse
        return add(mul(mod(steps, _over(den, size)), size), within)
    atom = only_atom(rest)
    if isinstance(atom, Mod) and isinstance(atom.den, int) and isinstance(den, int) and atom.den % den == 0:
        return mod(atom.num, den)
    return of(Mod(rest, den))


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
            rest = add(rest, from_terms({monomial: coefficient}))
    if isinstance(den, Expr) and len(den.terms) > 1 and num == den:
        return 1, 0
    return quotient, rest


def _divide_term(monomial: Monomial, coefficient: int, den: Size) -> Size | None:
    """``term / den`` where ``den`` (a single term) divides it exactly, else None."""
    if isinstance(den, int):
        if coefficient % den == 0:
            return from_terms({monomial: coefficient // den})
        common = gcd(coefficient, den)
        for position, atom in enumerate(monomial):  # a symbol known to be a multiple keeps its quotient as an atom
            if isinstance(atom, Symbol) and atom.divisor % (den // common) == 0:
                others = monomial[:position] + monomial[position + 1 :]
                return mul(from_terms({others: coefficient // common}), of(FloorDiv(of(atom), den // common)))
        return _divide_factors(monomial, coefficient // common, den // common)
    if len(den.terms) != 1:
        return None
    (factors, scale), left = den.terms[0], list(monomial)
    for factor in factors:
        if factor not in left:
            return None
        left.remove(factor)
    return from_terms({tuple(left): coefficient // scale}) if coefficient % scale == 0 else None


def _divide_factors(monomial: Monomial, coefficient: int, den: int) -> Size | None:
    """``term / den`` where several symbols together are known to be a multiple of ``den``, else None."""
    quotient: Size = coefficient
    for atom in monomial:
        part = gcd(atom.divisor, den) if isinstance(atom, Symbol) else 1
        den //= part
        quotient = mul(quotient, floordiv(of(atom), part))
    return quotient if den == 1 else None


def divides(den: int, size: Size) -> bool:
    """Whether the integer ``den`` provably divides ``size``."""
    return all(
        c % den == 0 or any(isinstance(a, Symbol) and c * a.divisor % den == 0 for a in m)
        for m, c in terms_of(size).items()
    )


def ceildiv(num: Size, den: int) -> Size:
    """``num / den`` rounded up."""
    return floordiv(add(num, den - 1), den)
