"""Which graphs are alike: the same ops on operands of the same types, whatever values and dimensions are called.

Unlike ``canonical``, which prints, this is quick enough to ask of every region that the search for fusions considers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.stems import stem

Structure: TypeAlias = tuple[Hashable, ...]
LABELS = frozenset({"name"})  # attributes that only name their op


class Structures:
    """Structures of graphs that share ops: equal where the graphs are alike. Only those of one object compare.

    With ``named``, graphs are alike only if their dimensions are called alike, too, and their values but for numbers in
    their names: schedules speak of dimensions, and generated text of either.
    """

    def __init__(self, *, named: bool = False) -> None:
        self._named = named
        self._kinds: dict[Hashable, int] = {}
        self._graphs: dict[Graph, Structure] = {}
        self._ops: dict[Op, int] = {}
        self._values: dict[Value, int] = {}

    def of(self, graph: Graph) -> Structure:
        """The structure of a graph, and of the loops in it."""
        if graph not in self._graphs:
            self._graphs[graph] = self._of(graph, {})
        return self._graphs[graph]

    def _of(self, graph: Graph, numbers: dict[Value, int]) -> Structure:
        for value in graph.inputs:
            numbers[value] = len(numbers)
        parts: list[Hashable] = [self._number((*map(self._value, graph.inputs), attrs_key(graph.attrs)))]
        for op in graph.ops:
            parts.append(self._ops[op] if op in self._ops else self._op(op))
            parts += [numbers[v] for v in op.inputs]
            parts += [self._of(region, numbers) for region in op.regions]
            for value in op.outputs:
                numbers[value] = len(numbers)
        return (*parts, -1, *[numbers[v] for v in graph.outputs])

    def _op(self, op: Op) -> int:
        attrs = tuple((name, _attr(attr)) for name, attr in op.attrs.items() if name not in LABELS)
        kind = op.name, attrs, len(op.inputs), len(op.regions), *map(self._value, op.outputs)
        self._ops[op] = self._number(kind)
        return self._ops[op]

    def _value(self, value: Value) -> int:
        if value not in self._values:
            type = value.type
            kind: tuple[Hashable, ...] = (type.dtype, type.shape, type.strides)
            self._values[value] = self._number((*kind, type.axes, stem(value.name)) if self._named else kind)
        return self._values[value]

    def _number(self, kind: Hashable) -> int:
        return self._kinds.setdefault(kind, len(self._kinds))


def attrs_key(attrs: Mapping[str, Any]) -> Hashable:
    """Equal for attributes that print alike, in the same order."""
    return tuple((name, _attr(attr)) for name, attr in attrs.items())


def _attr(attr: Any) -> Hashable:
    """Equal only for attributes that print alike: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(attr, tuple):
        return tuple(_attr(item) for item in attr)
    return repr(attr) if isinstance(attr, bool | float) else attr
