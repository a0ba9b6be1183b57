"""Sizes for planning: what a run-time size is taken for, and powers of two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

from rooftile.ir.expr import Atom, FloorDiv, Size, Symbol

LIKELY_SIZE = 2048  # what an unknown size is taken for
_KNOWN: ContextVar[Mapping[str, int] | None] = ContextVar("known sizes", default=None)


@contextmanager
def known_sizes(sizes: Mapping[str, int]) -> Iterator[None]:
    """Within it, run-time sizes are likely to be these: what a call was, and not what all calls are planned for."""
    token = _KNOWN.set(sizes)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def likely(size: Size) -> int:
    """The value that ``size`` is planned for: run-time sizes count as ``LIKELY_SIZE``, or what of it their range
    allows."""
    return taken_for(size, _likely_symbol)


def taken_for(size: Size, value: Callable[[Symbol], int]) -> int:
    """``size`` with each run-time size taken for ``value``, and quotients for 1 at least: where one would be 0, what it
    divides by has been taken for more than it can be."""
    if isinstance(size, int):
        return size
    return sum(c * prod(_atom_taken_for(atom, value) for atom in monomial) for monomial, c in size.terms)


def _atom_taken_for(atom: Atom, value: Callable[[Symbol], int]) -> int:
    if isinstance(atom, Symbol):
        return value(atom)
    number, by = taken_for(atom.num, value), max(1, taken_for(atom.den, value))
    return max(1, number // by) if isinstance(atom, FloorDiv) else number % by


def _likely_symbol(s: Symbol) -> int:
    known = (_KNOWN.get() or {}).get(s.name)
    return known if known is not None else max(s.lo, min(LIKELY_SIZE, s.hi if s.hi is not None else LIKELY_SIZE))


def next_power(n: int) -> int:
    """The least power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()
