"""Integers of which a region takes more for granted than their dtype: ends of segments never decrease, and the rows
that an arrange writes are all different ones. Whoever makes up inputs has to keep to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rooftile.ir.core import Graph, Value
from rooftile.ir.expr import Size

_OPERAND: Mapping[str, tuple[int, Literal["ends", "rows"]]] = {"segment": (0, "ends"), "arrange": (1, "rows")}


@dataclass(frozen=True)
class Promise:
    """``ends`` between segments of ``size`` positions, or distinct ``rows`` of ``size``."""

    kind: Literal["ends", "rows"]
    size: Size


def promises(body: Graph) -> dict[Value, Promise]:
    """What is promised of the inputs of a region's body that such an op's integers are made of: whatever is done to
    them on the way (counted from the end, cast), it leaves ends and distinct rows within the size what they are."""
    made_by = body.producers()
    found: dict[Value, Promise] = {}
    for op in body.ops:
        if op.name not in _OPERAND:
            continue
        number, kind = _OPERAND[op.name]
        stack = [op.inputs[number]]
        while stack:
            value = stack.pop()
            if value in made_by:
                stack.extend(made_by[value].inputs)
            elif value.type.rank == 1 and value.dtype.kind == "int":
                found[value] = Promise(kind, op.attrs["size"])
    return found
