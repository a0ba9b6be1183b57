"""Values that hold one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rooftile.ir.core import Op, Value

Number: TypeAlias = bool | int | float


def number_in(value: Value, producer: Callable[[Value], Op | None]) -> Number | None:
    """The number that every element of ``value`` is, where that is known; ``producer`` gives the op that makes a
    value, or None."""
    op = producer(value)
    while op is not None and op.name == "expand":
        op = producer(op.inputs[0])
    return op.attrs["value"] if op is not None and op.name == "constant" else None
