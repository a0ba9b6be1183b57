"""The table of ATen ops that have a meaning in the graph IR: one row per op, in the ``aten_*`` files by family.

A row is a function ``(im, *operands) -> Value`` (or several values), registered under one or more ATen overloads.
``im`` is the ``Import``; the other parameters are those of the overload's schema. Tensors arrive as ``Value``, sizes as
``Size``, the rest as Python values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from torch._ops import OpOverload

from rooftile.ir.core import Value

# Several results: by position, or only those that the row can compute (the others may not be used).
Results: TypeAlias = "Value | Sequence[Value] | Mapping[int, Value]"
Row: TypeAlias = "Callable[..., Results]"
Overload: TypeAlias = "OpOverload[..., Any]"
_Row = TypeVar("_Row", bound=Row)

ROWS: dict[Overload, Row] = {}
NOTED: set[Overload] = set()  # calls that a library may be faster at as a whole
ROWS_BY_NAME: dict[str, Row] = {}  # of ops that a library registers, if it is there at all


class DeclinedError(Exception):
    """A row does not cover the form at hand (the message says which); the op stays an ATen call."""


class RefusedError(DeclinedError):
    """torch refuses the operands, and is to say so itself: the op's parts might take them."""


def row(*overloads: Overload, noted: bool = False) -> Callable[[_Row], _Row]:
    """Register a function as the meaning of ``overloads``; ``noted``: the graph tells which values are their results,
    for a tuner that may run the call as it is."""

    def register(function: _Row) -> _Row:
        for overload in overloads:
            if overload in ROWS:
                raise ValueError(f"{overload} has two rows")
            ROWS[overload] = function
            NOTED.update((overload,) if noted else ())
        return function

    return register


def row_by_name(name: str) -> Callable[[_Row], _Row]:
    """Register a function as the meaning of a library's own op, such as ``"transformers::grouped_mm_fallback"``."""

    def register(function: _Row) -> _Row:
        ROWS_BY_NAME[name] = function
        return function

    return register


def rows_of_one_kind(table: Mapping[Overload, Any], make: Callable[[Any], Row]) -> None:
    """Register ``make(entry)`` for every entry of a table: for ops that differ only by a name."""
    for overload, entry in table.items():
        row(overload)(make(entry))


def decline_if(condition: bool, why: str) -> None:
    """Leave the op to ATen where ``condition`` holds."""
    if condition:
        raise DeclinedError(why)


def dims_of(rank: int, dims: Any) -> tuple[int, ...]:
    """Dimension numbers (one, several, or None for all), made non-negative and sorted."""
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return tuple(range(rank))
    listed = [dims] if isinstance(dims, int) else list(dims)
    return tuple(sorted(d % rank for d in listed)) if rank else ()
