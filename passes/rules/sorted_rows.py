"""Rule Sort: rows may be computed in any order, and put back where they belong.

``y_r = (y_{o_s})_{s = o^-1(r)}`` for any permutation ``o``. In the order of the numbers at which rows read matrices,
these numbers are the segments that the rows lie in.
"""

from __future__ import annotations

from dataclasses import dataclass

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size, axis
from rooftile.ir.extern import encode
from rooftile.ir.polynomial import add, product
from rooftile.ir.ranks import MOST_SORTED, argsort
from rooftile.passes.editing import replaced
from rooftile.passes.liveness import needed_without
from rooftile.passes.regions.sizes import likely
from rooftile.passes.rules.elsewhere import Elsewhere, Place, Rows


@dataclass(frozen=True)
class NumberedRows:
    """The ``axes`` of a contraction, in the order of its result, along which ``operand`` is one of ``matrices``: that
    at ``numbers``, which are read at the axes ``at``."""

    operand: Value
    numbers: Value
    at: tuple[str, ...]
    axes: tuple[tuple[str, Size], ...]
    matrices: int

    @property
    def count(self) -> Size:
        """How many rows there are."""
        return product([size for _, size in self.axes])


def in_order(graph: Graph, op: Op, rows: NumberedRows) -> Graph:
    """The graph with what ``op`` and its epilogue compute for ``rows`` computed in the order of their numbers."""
    last = _epilogue(graph, op)
    return replaced(graph, last, lambda builder: _Sorted(builder, graph, op, rows).back(last))


def _epilogue(graph: Graph, op: Op) -> Op:
    """The last of the ops that follow ``op`` element by element, before anything wider is stored."""
    users, last = graph.users(), op
    while True:
        readers = [each for each in users.get(last.output, ()) if each.name != "called"]
        if len(readers) != 1 or last.output in graph.outputs or not _follows(readers[0], last):
            return last
        last = readers[0]


def _follows(reader: Op, op: Op) -> bool:
    narrow = reader.name in ("pointwise", "cast") and reader.output.dtype.bytes <= op.output.dtype.bytes
    return narrow and reader.output.dtype.is_float


class _Sorted:
    """Rows in the order of their numbers."""

    def __init__(self, builder: GraphBuilder, graph: Graph, op: Op, rows: NumberedRows) -> None:
        self._b, self._graph, self._op, self._rows = builder, graph, op, rows
        self._producers = graph.producers()
        names = [name for name, _ in rows.axes]
        own = [(name, dict(rows.axes)[name]) for name in rows.at]
        read = builder.gather(rows.numbers, [], rows.axes, [[axis(*each) for each in own]])
        self._numbers, self._order = _sorting(builder, builder.reshape(read, (rows.count,)))
        self._places: dict[str, Place] = dict(zip(names, self._unflattened(), strict=True))

    def _unflattened(self) -> list[Place]:
        """Where along each of their axes the rows in order come from."""
        sizes, rest, found = [size for _, size in self._rows.axes], self._order, list[Place]()
        for size in sizes[:0:-1]:
            found.append(self._with("mod", rest, size))
            rest = self._with("floordiv", rest, size)
        return [rest, *found[::-1]]

    def _with(self, fn: str, value: Value, size: Size) -> Value:
        return self._b.pointwise(fn, value, self._b.expand(self._b.number(size), value.shape, ()))

    def back(self, last: Op) -> None:
        """The result of ``last``, its rows put back where they belong."""
        b, rows = self._b, Rows((("row", self._rows.count),))
        needed = needed_without(self._graph, last)
        through = self._downstream(needed)
        at = Elsewhere(b, self._producers, rows, through, lambda op: self._is_worth(op, needed))
        at.known[self._rows.numbers, tuple(self._places[name] for name in self._rows.at)] = self._segments()
        out = self._op.attrs["out"]
        places = tuple(self._places.get(name) for name in out)
        found = at.by_rule(last, places, lambda number, inner: at.read(last.inputs[number], inner))
        assert found is not None, "contractions and what follows them element by element have a rule"
        arranged = b.arrange(found, self._order, self._rows.count)
        kept = [d for d, place in enumerate(places) if place is None]
        first = [d for d, place in enumerate(places) if place is not None]
        shape = last.output.shape
        apart = b.reshape(arranged, [shape[d] for d in (*first, *kept)])
        b.op("permute", [apart], {"perm": tuple((*first, *kept).index(d) for d in range(len(shape)))})

    def _segments(self) -> Value:
        """The numbers in order, told by how many rows have each number or a smaller one."""
        b, count, matrices = self._b, self._rows.count, self._rows.matrices
        numbers, shape = b.cast(self._numbers, I32), (count, matrices)
        each = b.op("iota", (), {"size": matrices, "dtype": I32})
        passed = b.pointwise("le", b.expand(numbers, shape, (0,)), b.expand(each, shape, (1,)))
        ends = b.reduce("sum", b.cast(passed, I32), [0])
        return b.segment(b.slice(ends, 0, 0, add(matrices, -1)), count)

    def _is_worth(self, op: Op, needed: frozenset[Op]) -> bool:
        """Whether ``op`` is a product with matrices at the same numbers that nothing else reads."""
        if op is self._op:
            return True
        made = [self._producers.get(x) for x in op.inputs] if op.name == "contract" else []
        return op not in needed and any(
            each is not None and each.name == "gather" and self._rows.numbers in each.inputs[1:] for each in made
        )

    def _downstream(self, needed: frozenset[Op]) -> frozenset[Value]:
        found: set[Value] = set()
        for op in self._graph.ops:
            if self._is_worth(op, needed) or not found.isdisjoint(op.inputs):
                found.update(op.outputs)
        return frozenset(found)


def needs_call(count: Size) -> bool:
    """Whether so many rows are sorted by ATen."""
    return not isinstance(count, int) or count > MOST_SORTED


def _sorting(builder: GraphBuilder, numbers: Value) -> tuple[Value, Value]:
    """``numbers``, in any order, and where each of them stands when they are in theirs; few of them are ranked, many
    are left to ATen."""
    (count,) = numbers.shape
    if not needs_call(count):
        return numbers, argsort(builder, numbers, likely(count))
    types = (numbers.type, TensorType(I64, numbers.shape))
    operands, attrs = encode("aten.sort.default", [numbers], {}, types)
    ordered, order = builder.multi("extern", operands, attrs, name="sort")
    return ordered, order
