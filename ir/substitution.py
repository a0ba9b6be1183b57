"""Expressions with something in place of their symbols: other expressions, or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rooftile.ir.division import floordiv, mod
from rooftile.ir.expr import Atom, FloorDiv, Size, Symbol, of, symbol_names
from rooftile.ir.polynomial import add, mul


def substitute(size: Size, replacement: Mapping[str, Size]) -> Size:
    """``size`` with the symbols named in ``replacement`` replaced, simplified again."""
    if isinstance(size, int):
        return size
    if symbol_names(size).isdisjoint(replacement):
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
