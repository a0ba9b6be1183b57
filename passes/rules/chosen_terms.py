"""Rule Delta: the sum over all positions of what is zero but at chosen ones is the sum over these.

``sum_e (sum_k [i_k = e] w_k) y_e  =  sum_k w_k y_{i_k}``, however often a position is chosen; where each counts once,
all but the last ``k`` that name it are left out, unless the ``i_k`` are known to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import B1, I64
from rooftile.ir.expr import Size, axis, symbol_names
from rooftile.passes.canonical.intervals import interval
from rooftile.passes.editing import replaced
from rooftile.passes.rules.deltas import Delta, Index
from rooftile.passes.rules.elsewhere import Elsewhere, Place, Places, Rows, contracted, read_operands, reduced

SUMS = ("contract", "reduce")


class ChosenTerms:
    """The sum ``op`` over the axis ``summed`` as one over the terms that ``delta`` leaves; what ``needed`` ops compute
    is there in any case."""

    def __init__(self, op: Op, summed: str, delta: Delta, producers: Mapping[Value, Op], needed: frozenset[Op]) -> None:
        self._op, self._delta, self._producers, self._needed = op, delta, producers, needed
        self._extent = delta.sizes[summed]
        self._names = [next(iter(symbol_names(entry) & set(delta.sizes))) for entry in delta.at if entry != 0]
        own = (
            dict(op.attrs["axes"]) if op.name == "contract" else {f"d{d}": n for d, n in enumerate(op.inputs[0].shape)}
        )
        self._opened = [name for name in self._names if name not in own]  # what the sum runs over instead
        self._rows = Rows(tuple((f"row{number}", delta.sizes[name]) for number, name in enumerate(self._names)))
        self._row_of: dict[str, Place] = dict(zip(self._names, self._rows.index, strict=True))
        self._summed = summed

    def instead(self, graph: Graph) -> Graph | None:
        """The graph with the sum over these terms; None where they cannot be told apart from the others."""

        def make(builder: GraphBuilder) -> None:
            found = self._sum(builder)
            builder.op("permute", [found], {"perm": tuple(range(found.type.rank))})

        try:
            return replaced(graph, self._op, make)
        except NotToldApart:
            return None

    def _sum(self, builder: GraphBuilder) -> Value:
        through = self._downstream()
        at = Elsewhere(builder, self._producers, self._rows, through, self._is_worth)
        index, counts = self._chosen(builder)
        chosen = {**self._row_of, self._summed: index}
        if self._delta.writer is not None:
            writer, read_at = self._delta.writer
            numbers = at.as_value(self._row_of[self._delta.once])
            assert numbers is not None
            for alone in (0, None):  # how a dimension of size 1 is read
                places = tuple(
                    alone if e == 0 else p for e, p in zip(read_at, self._places(read_at, chosen), strict=True)
                )
                shape = at.kept(writer.shape, places)
                known = builder.expand(builder.cast(numbers, writer.dtype), shape, range(numbers.type.rank))
                at.known[writer, places] = known
        term = self._reduced if self._op.name == "reduce" else self._contracted
        return term(at, chosen, counts)

    def _places(self, index: Index, chosen: Mapping[str, Place]) -> Places:
        axes = {axis(name, size): name for name, size in self._delta.sizes.items()}
        return tuple(chosen.get(axes[e]) if e in axes else None for e in index)

    def _chosen(self, builder: GraphBuilder) -> tuple[Value, Value | None]:
        """The chosen positions over the rows, and whether each counts; None for the latter where all do."""
        delta, low, high = self._delta, 0, self._extent
        plain = [(name, delta.sizes[name]) for name in self._names]
        index = builder.gather(delta.index, [], plain, [delta.at])
        counts: Value | None = None
        bounds = interval(delta.index, self._producers.get)
        if not (bounds[0] >= low and isinstance(high, int) and bounds[1] < high):
            first, end = (self._number(builder, number, index) for number in (0, high))
            counts = builder.pointwise(
                "and", builder.pointwise("ge", index, first), builder.pointwise("lt", index, end)
            )
            index = builder.pointwise("where", counts, index, first)
        if delta.once and not self._differ():
            last = self._is_last(builder, builder.gather(delta.index, [], plain, [delta.at]))
            counts = last if counts is None else builder.pointwise("and", counts, last)
        return index, counts

    def _number(self, builder: GraphBuilder, number: Size, like: Value) -> Value:
        return builder.expand(builder.number(number, like.dtype), like.shape, ())

    def _differ(self) -> bool:
        """Whether no two positions along the axis of which each counts once are the same."""
        op = self._producers.get(self._delta.index)
        while op is not None and op.name == "cast":
            op = self._producers.get(op.inputs[0])
        if op is None or op.name != "positions":
            return False
        return self._delta.once in symbol_names(self._delta.at[op.attrs["dim"]])

    def _is_last(self, builder: GraphBuilder, index: Value) -> Value:
        """Whether no later position along that axis is the same."""
        dim, rank = self._names.index(self._delta.once), index.type.rank
        shape = (*index.shape, index.shape[dim])
        others = [rank if d == dim else d for d in range(rank)]
        mine = builder.expand(index, shape, range(rank))
        moved = builder.permute(index, [d for d in range(rank) if d != dim] + [dim])
        theirs = builder.expand(moved, shape, [d for d in others if d != rank] + [rank])
        iota = builder.op("iota", (), {"size": index.shape[dim], "dtype": I64})
        later = builder.pointwise("gt", builder.expand(iota, shape, (rank,)), builder.expand(iota, shape, (dim,)))
        again = builder.pointwise("and", builder.pointwise("eq", mine, theirs), later)
        return builder.pointwise("not", builder.reduce("any", again, [rank]))

    def _downstream(self) -> frozenset[Value]:
        """What follows from sums that are not needed otherwise: worth computing at the chosen positions."""
        found: set[Value] = set()
        writer = self._delta.writer
        for op in self._producers.values():
            if op is not self._op and (
                self._is_worth(op)
                or not found.isdisjoint(op.inputs)
                or (writer is not None and writer[0] in op.outputs)
            ):
                found.update(op.outputs)
        return frozenset(found)

    def _is_worth(self, op: Op) -> bool:
        return op.name in SUMS and op not in self._needed

    def _along(self, at: Elsewhere, number: int, places: Places) -> Value:
        """What step ``number`` on the way to the delta carries, which is one where it ends."""
        steps = self._delta.steps
        if number == len(steps):
            true = at.b.constant(True, B1)
            return at.b.expand(true, at.kept(self._delta.value.shape, places), ())
        step = steps[number]

        def operand(which: int, inner: Places) -> Value:
            on_the_way = which == step.operand
            return self._along(at, number + 1, inner) if on_the_way else at.read(step.op.inputs[which], inner)

        opened = {own: self._row_of[name] for own, name in step.own.items() if name in self._opened}
        found = self._by_rule(at, step.op, places, operand, opened)
        if found is None:
            raise NotToldApart
        return found

    def _by_rule(
        self,
        at: Elsewhere,
        op: Op,
        places: Places,
        operand: Callable[[int, Places], Value],
        opened: Mapping[int | str, Place],
    ) -> Value | None:
        with at.b.at(op.loc):
            if op.name == "reduce":
                return reduced(at, op, places, operand, {d: p for d, p in opened.items() if isinstance(d, int)})
            if op.name == "contract":
                return contracted(at, op, places, operand, {a: p for a, p in opened.items() if isinstance(a, str)})
            return at.by_rule(op, places, operand)

    def _reduced(self, at: Elsewhere, chosen: Mapping[str, Place], counts: Value | None) -> Value:
        """The sum of all dims that ``op`` sums, the summed one being the opened axes."""
        op, dims = self._op, self._op.attrs["dims"]
        names = [f"d{d}" for d in range(op.inputs[0].type.rank)]
        term = self._along(at, 1, tuple(chosen.get(name) for name in names))
        have = [*self._names, *(name for name in names if name not in chosen)]
        wanted = [name for d, name in enumerate(names) if d not in dims]
        return self._total(at.b, term, have, wanted, counts)

    def _total(self, b: GraphBuilder, term: Value, have: list[str], wanted: list[str], counts: Value | None) -> Value:
        """``term``, whose dims are ``have``, where it ``counts``, summed over all of them that are not ``wanted``."""
        if counts is not None:
            zero = b.expand(b.constant(0.0, term.dtype), term.shape, ())
            term = b.pointwise("where", b.expand(counts, term.shape, range(counts.type.rank)), term, zero)
        total = b.reduce("sum", term, [d for d, name in enumerate(have) if name not in wanted])
        left = [name for name in have if name in wanted]
        return b.permute(total, [left.index(name) for name in wanted])

    def _contracted(self, at: Elsewhere, chosen: Mapping[str, Place], counts: Value | None) -> Value:
        """One product for each row, of which the sum over opened axes comes last; what varies over the rows alone is
        multiplied with that."""
        op, b, first = self._op, at.b, self._delta.steps[0].operand
        read = read_operands(at, op, chosen, partial(self._operand, at))
        if read is None:
            raise NotToldApart
        outside = read[first][1] == self._rows.index
        rest = [each for number, each in enumerate(read) if number != first or not outside]
        axes = [*self._rows.axes, *((name, size) for name, size in op.attrs["axes"] if name not in chosen)]
        plain = {row: name for (row, _), name in zip(self._rows.axes, self._names, strict=True)}
        out = [name for name, _ in axes if plain.get(name, name) in self._names or name in op.attrs["out"]]
        if not rest:
            raise NotToldApart
        acc, dtype = op.attrs["acc"], op.attrs["dtype"]
        if len(rest) == 1 and len(out) == len(axes):
            term = b.gather(rest[0][0], [], axes, [rest[0][1]])
        else:
            narrow = outside and len(rest) > 1  # a product of two that the model's own would round as well
            term = b.contract(
                axes, [v for v, _ in rest], [m for _, m in rest], out, acc=acc, dtype=dtype if narrow else acc
            )
        term = b.cast(term, acc)
        if outside:
            weight = b.expand(b.cast(read[first][0], acc), term.shape, range(len(self._rows.axes)))
            term = b.pointwise("mul", term, weight)
        total = self._total(b, term, [plain.get(name, name) for name in out], list(op.attrs["out"]), counts)
        return b.cast(total, dtype)

    def _operand(self, at: Elsewhere, number: int, places: Places) -> Value:
        on_the_way = number == self._delta.steps[0].operand
        return self._along(at, 1, places) if on_the_way else at.read(self._op.inputs[number], places)


class NotToldApart(Exception):
    """The chosen terms cannot be computed apart from the others."""
