"""Sizes for planning: what a run-time size is taken for, and powers of two."""

from __future__ import annotations

from rooftile.ir.expr import Size, Symbol, size_symbols
from rooftile.ir.substitution import evaluate

LIKELY_SIZE = 2048  # what an unknown size is taken for


def likely(size: Size) -> int:
    """The value that ``size`` is planned for: run-time sizes count as ``LIKELY_SIZE``, or what of it their range
    allows."""
    return evaluate(size, {s.name: _likely_symbol(s) for s in size_symbols(size)})


def _likely_symbol(s: Symbol) -> int:
    return max(s.lo, min(LIKELY_SIZE, s.hi if s.hi is not None else LIKELY_SIZE))


def next_power(n: int) -> int:
    """The least power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()
