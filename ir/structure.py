"""Which graphs are alike: the same ops on operands of the same types, whatever values and dimensions are called.

Unlike ``canonical``, which prints, this is quick enough to ask of every region that the search for fusions considers.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

from rooftile.ir.core import Graph, Op, TensorType, Value

Structure: TypeAlias = tuple[Hashable, ...]
_LABELS = frozenset({"name"})  # attributes that only name their op


class Structures:
    """Structures of graphs that share ops: equal where the graphs are alike. Only those of one object compare."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, int] = {}
        self._ops: dict[Op, int] = {}

    def of(self, graph: Graph) -> Structure:
        """The structure of a graph whose ops have no regions."""
        numbers: dict[Value, int] = {v: n for n, v in enumerate(graph.inputs)}
        parts: list[Hashable] = [self._number(tuple(_type(v.type) for v in graph.inputs))]
        for op in graph.ops:
            parts.append((self._op(op), *(numbers[v] for v in op.inputs)))
            for value in op.outputs:
                numbers[value] = len(numbers)
        return (*parts, tuple(numbers[v] for v in graph.outputs))

    def _op(self, op: Op) -> int:
        if op not in self._ops:
            attrs = tuple((name, _attr(attr)) for name, attr in op.attrs.items() if name not in _LABELS)
            self._ops[op] = self._number((op.name, attrs, tuple(_type(v.type) for v in op.outputs)))
        return self._ops[op]

    def _number(self, kind: Hashable) -> int:
        return self._kinds.setdefault(kind, len(self._kinds))


def _type(type: TensorType) -> Hashable:
    return type.dtype, type.shape, type.strides


def _attr(attr: Any) -> Hashable:
    """Equal only for attributes that print alike: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(attr, tuple):
        return tuple(_attr(item) for item in attr)
    return repr(attr) if isinstance(attr, bool | float) else attr
