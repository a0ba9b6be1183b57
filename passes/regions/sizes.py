"""Sizes for planning: what a run-time size is taken for, and powers of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from rooftile.ir.expr import Size, Symbol, size_symbols
from rooftile.ir.substitution import evaluate

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
    return evaluate(size, {s.name: _likely_symbol(s) for s in size_symbols(size)})


def _likely_symbol(s: Symbol) -> int:
    known = (_KNOWN.get() or {}).get(s.name)
    return known if known is not None else max(s.lo, min(LIKELY_SIZE, s.hi if s.hi is not None else LIKELY_SIZE))


def next_power(n: int) -> int:
    """The least power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()
