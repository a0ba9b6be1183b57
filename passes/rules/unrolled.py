"""Rule Unrolled: terms that are one expression at numbers in a row are that expression along an axis.

``f(0), f(1), ..., f(n - 1)  =  f(e) along e``. What may differ from term to term is a constant that grows by the same
step, a slice of one value that lies behind that of the term before, or which weight of the same type is read: these are
laid one behind the other, once. Whatever is the same in all terms is computed once; everything else gets the axis as
its first dimension. Terms of loops one inside the other have an axis for each: those of the inner one first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import I32
from rooftile.ir.expr import axis
from rooftile.ir.extern import encode
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import equal
from rooftile.passes.packing import STACK, is_packed, stacked

DEEPEST = 64  # ops between a term and what all terms share

Terms: TypeAlias = tuple[Value, ...]
Operands: TypeAlias = Sequence[Value | None]  # along the axis; None for what is the same in all terms
_Rule: TypeAlias = Callable[["AlongAxis", Op, Operands], Value]


class NotAlike(Exception):
    """Terms differ in more than numbers; the message says in what."""


class Shapes:
    """Numbers for a graph's values: the same for those that are computed alike from inputs alike, whatever numbers are
    in them. ``with_products`` are those of values that products went into."""

    def __init__(self, graph: Graph) -> None:
        self._numbers: dict[Hashable, int] = {}
        self.of = {value: self._number(value.type) for value in graph.inputs}
        self.with_products: set[int] = set()
        for op in graph.ops:
            inputs = tuple(self.of[x] for x in op.inputs)
            multiplies = op.name == "contract" or not self.with_products.isdisjoint(inputs)
            for place, value in enumerate(op.outputs):
                self.of[value] = self._number((value.type, op.name, place, _told(op), inputs))
                if multiplies:
                    self.with_products.add(self.of[value])

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _told(op: Op) -> Hashable:
    """The attributes in which terms that are alike agree."""
    numbers = "starts" if op.name == "slice" else ""
    if op.name == "constant" and op.output.dtype.kind == "int":
        numbers = "value"
    return tuple(sorted((name, value) for name, value in op.attrs.items() if name != numbers))


def along_axes(builder: GraphBuilder, terms: Terms, producers: Mapping[Value, Op], weights: Collection[Value]) -> Value:
    """The terms, one behind the other: along one axis, or where loops lie one inside the other along several.

    Raises:
        NotAlike: they differ in more than numbers.
    """
    runs = _runs(terms, producers)
    inner = AlongAxis(builder, producers, len(runs[0]), weights)
    rows = tuple(inner.of(run) for run in runs)
    if len(rows) == 1:
        return rows[0]
    made = {value: op for op in builder.ops for value in op.outputs}
    return AlongAxis(builder, made, len(rows)).of(rows)


def _runs(terms: Terms, producers: Mapping[Value, Op]) -> list[Terms]:
    """``terms``, of which as many read each of several products, in runs with one term of each product."""
    groups: dict[frozenset[Value], list[Value]] = {}
    for x in terms:
        groups.setdefault(_products(x, producers), []).append(x)
    lengths = {len(group) for group in groups.values()}
    return list(zip(*groups.values(), strict=True)) if len(lengths) == 1 and len(groups) > 1 else [terms]


def _products(term: Value, producers: Mapping[Value, Op]) -> frozenset[Value]:
    """The products that ``term`` is computed from, before others."""
    found, seen, stack = set[Value](), {term}, [term]
    while stack:
        x = stack.pop()
        op = producers.get(x)
        if op is not None and op.name == "contract":
            found.add(x)
        elif op is not None:
            stack += [v for v in op.inputs if v not in seen]
            seen.update(op.inputs)
    return frozenset(found)


class AlongAxis:
    """Builds the values of ``count`` terms as one value that has them along its first dimension. ``weights`` are those
    that may be laid one behind the other."""

    def __init__(
        self, builder: GraphBuilder, producers: Mapping[Value, Op], count: int, weights: Collection[Value] = ()
    ) -> None:
        self.builder, self.count = builder, count
        self._producers, self._weights = producers, weights
        self._known: dict[Terms, Value | None] = {}

    def of(self, terms: Terms) -> Value:
        """The terms, one behind the other.

        Raises:
            NotAlike: they differ in more than numbers.
        """
        found = self._varying(terms, DEEPEST)
        return self._repeated(terms[0]) if found is None else found

    def _repeated(self, x: Value) -> Value:
        return self.builder.expand(x, (self.count, *x.shape), range(1, 1 + x.type.rank))

    def _varying(self, terms: Terms, depth: int) -> Value | None:
        """What these are along the axis; None where all are the same."""
        if all(x is terms[0] for x in terms):
            return None
        if terms not in self._known:
            self._known[terms] = self._computed(terms, depth)
        return self._known[terms]

    def _computed(self, terms: Terms, depth: int) -> Value | None:
        if all(x in self._weights for x in terms) and len({x.type for x in terms}) == 1:
            return self._side_by_side(terms)
        made = [op for x in terms if (op := self._producers.get(x)) is not None]
        if len(made) < len(terms) or not depth:
            raise NotAlike(f"%{terms[0].name}, %{terms[1].name} and so on are separate values")
        first = made[0]
        if any((op.name, op.output.type) != (first.name, first.output.type) for op in made):
            raise NotAlike(f"%{terms[0].name} is not computed like %{terms[1].name}")
        with self.builder.at(first.loc):
            if first.name == "constant":
                return self._constant([op.attrs["value"] for op in made], first)
            operands = [self._varying(xs, depth - 1) for xs in zip(*(op.inputs for op in made), strict=True)]
            if first.name == "slice" and len({op.attrs["starts"] for op in made}) > 1:
                if operands[0] is not None:
                    raise NotAlike(f"%{terms[0].name} and %{terms[1].name} are parts of separate values")
                return self._slices(made)
            if any(op.attrs != first.attrs for op in made) or first.name not in _RULES:
                raise NotAlike(f"%{terms[0].name} is not computed like %{terms[1].name}")
            if all(x is None for x in operands):
                return None
            return _RULES[first.name](self, first, operands)

    def _side_by_side(self, terms: Terms) -> Value:
        """Weights as one tensor, kept from call to call; the same one wherever the same are wanted."""
        known = (op for op in self._producers.values() if op.name == "extern" and is_packed(op))
        found = next((op.output for op in known if stacked(op) == terms), None)
        if found is None:
            shape = (len(terms), *terms[0].shape)
            operands, attrs = encode(STACK, [terms], {}, (TensorType(terms[0].dtype, shape),))
            (found,) = self.builder.multi("extern", operands, {**attrs, "packed": True}, name="stack")
        return found

    def whole(self, op: Op, operands: Operands) -> list[Value]:
        """The operands of ``op`` along the axis, those that are the same in all terms as well."""
        return [self._repeated(x) if along is None else along for along, x in zip(operands, op.inputs, strict=True)]

    def _constant(self, values: Sequence[Any], op: Op) -> Value | None:
        start, step = values[0], values[1] - values[0]
        if op.output.dtype.kind != "int" or any(v != start + n * step for n, v in enumerate(values)):
            raise NotAlike(f"the numbers {', '.join(map(str, values))} are not in a row")
        b, dtype = self.builder, op.output.dtype
        number = b.cast(b.op("iota", (), {"size": self.count, "dtype": I32}), dtype)
        if step != 1:
            number = b.pointwise("mul", number, b.constant(step, dtype))
        return number if not start else b.pointwise("add", number, b.constant(start, dtype))

    def _slices(self, made: Sequence[Op]) -> Value:
        starts, sizes = [op.attrs["starts"] for op in made], made[0].attrs["sizes"]
        apart = [d for d in range(len(sizes)) if not equal(starts[0][d], starts[1][d])]
        x = made[0].inputs[0]
        in_a_row = len(apart) == 1 and set(made[0].attrs["steps"]) == {1}
        d = apart[0] if apart else 0
        for number, each in enumerate(starts):
            wanted = (*starts[0][:d], add(starts[0][d], mul(sizes[d], number)), *starts[0][d + 1 :])
            in_a_row = in_a_row and all(map(equal, each, wanted))
        if not in_a_row:
            raise NotAlike(f"the parts of %{x.name} do not lie one behind the other")
        attrs = {"starts": starts[0], "sizes": (*sizes[:d], mul(sizes[d], self.count), *sizes[d + 1 :])}
        whole = self.builder.op("slice", [x], {**made[0].attrs, **attrs})
        split = self.builder.reshape(whole, (*sizes[:d], self.count, *sizes[d:]))
        return self.builder.permute(split, (d, *(e for e in range(len(sizes) + 1) if e != d)))


def _elementwise(at: AlongAxis, op: Op, operands: Operands) -> Value:
    return at.builder.op(op.name, at.whole(op, operands), op.attrs)


def _expand(at: AlongAxis, op: Op, operands: Operands) -> Value:
    dims = (0, *(d + 1 for d in op.attrs["dims"]))
    return at.builder.expand(at.whole(op, operands)[0], (at.count, *op.attrs["shape"]), dims)


def _reshape(at: AlongAxis, op: Op, operands: Operands) -> Value:
    return at.builder.reshape(at.whole(op, operands)[0], (at.count, *op.attrs["shape"]))


def _permute(at: AlongAxis, op: Op, operands: Operands) -> Value:
    return at.builder.permute(at.whole(op, operands)[0], (0, *(d + 1 for d in op.attrs["perm"])))


def _slice(at: AlongAxis, op: Op, operands: Operands) -> Value:
    first = {"starts": 0, "sizes": at.count, "steps": 1}
    return at.builder.op("slice", at.whole(op, operands), {name: (n, *op.attrs[name]) for name, n in first.items()})


def _concat(at: AlongAxis, op: Op, operands: Operands) -> Value:
    return at.builder.concat(at.whole(op, operands), op.attrs["dim"] + 1)


def _reduce(at: AlongAxis, op: Op, operands: Operands) -> Value:
    dims = tuple(d + 1 for d in op.attrs["dims"])
    return at.builder.op("reduce", at.whole(op, operands), {**op.attrs, "dims": dims})


def _contract(at: AlongAxis, op: Op, operands: Operands) -> Value:
    taken = {name for name, _ in op.attrs["axes"]}
    name = next(each for each in ("e", *(f"e{n}" for n in range(len(taken) + 1))) if each not in taken)
    number = axis(name, at.count)
    pairs = list(zip(operands, op.inputs, op.attrs["maps"], strict=True))
    attrs = {
        **op.attrs,
        "axes": ((name, at.count), *op.attrs["axes"]),
        "maps": tuple(m if along is None else (number, *m) for along, _, m in pairs),
        "out": (name, *op.attrs["out"]),
    }
    return at.builder.op("contract", [x if along is None else along for along, x, _ in pairs], attrs)


_RULES: Mapping[str, _Rule] = {
    "pointwise": _elementwise,
    "cast": _elementwise,
    "expand": _expand,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "concat": _concat,
    "reduce": _reduce,
    "contract": _contract,
}
