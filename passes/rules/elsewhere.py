"""Rule Elsewhere: what is computed and then read at other indices is computed at these indices.

``(sum_f h[e, t, f] w[e, f, n])[e := i[r]]  =  sum_f h[i[r], t, f] w[i[r], f, n]``. Reading goes down through whatever
takes each element from elements at the same index, and ends in gathers; where a whole tensor is wanted anyway, or where
nothing is saved by computing its elements anew, it ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from rooftile.ir.builder import IDX, GraphBuilder
from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size, axis, symbol_names
from rooftile.ir.polynomial import add, mul
from rooftile.ir.scalar import COMBINES
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.dims import boundaries, longer

# Where a dimension is read: an expression over the rows' axes, or integers over the rows.
Place: TypeAlias = Size | Value
Places: TypeAlias = tuple[Place | None, ...]  # of each dimension; None for one of which all is read
Operand: TypeAlias = Callable[[int, Places], Value]  # reads an operand, by its number
Rule: TypeAlias = "Callable[[Elsewhere, Op, Places, Operand], Value | None]"

FREE = frozenset({"permute", "expand", "slice", "reshape", "gather", "iota", "positions"})  # nothing is computed
LIGHT = frozenset({"pointwise", "cast", "concat", "pad"})


@dataclass(frozen=True)
class Rows:
    """The axes of what is read, before the dimensions of which all is read."""

    axes: tuple[tuple[str, Size], ...]

    @property
    def shape(self) -> tuple[Size, ...]:
        return tuple(size for _, size in self.axes)

    @property
    def index(self) -> tuple[Size, ...]:
        return tuple(axis(*each) for each in self.axes)


class Elsewhere:
    """Reads values of a graph over ``rows``; what it reads has these dimensions, and then those of which all is read.

    ``through`` are the values that may be computed anew though they are no views, ``worth`` tells of a contraction or a
    reduction whether it is, and ``known`` holds what is known of values at places.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        producers: Mapping[Value, Op],
        rows: Rows,
        through: Collection[Value],
        worth: Callable[[Op], bool],
    ) -> None:
        self.b, self.rows = builder, rows
        self.known: dict[tuple[Value, Places], Value] = {}
        self._producers, self._through, self._worth = producers, through, worth

    def read(self, value: Value, places: Places) -> Value:
        """``value`` at ``places``; itself where all of every dimension is read."""
        if not _is_read(places):
            return value
        key = (value, places)
        if key not in self.known:
            self.known[key] = self._read(value, places)
        return self.known[key]

    def _read(self, value: Value, places: Places) -> Value:
        op = self._producers.get(value)
        if op is None or not any(isinstance(place, Value) for place in places) or not self._goes_on(op):
            return self.gathered(value, places)
        found = self.by_rule(op, places, lambda number, at: self.read(op.inputs[number], at))
        return self.gathered(value, places) if found is None else found

    def by_rule(self, op: Op, places: Places, operand: Operand) -> Value | None:
        """The result of ``op`` at ``places``, computed there from its operands; None where that cannot be."""
        rule = RULES.get(op.name)
        if rule is None:
            return None
        with self.b.at(op.loc):
            return rule(self, op, places, operand)

    def _goes_on(self, op: Op) -> bool:
        if op.name in FREE:
            return True
        return op.output in self._through if op.name in LIGHT else len(op.outputs) == 1 and self._worth(op)

    def gathered(self, value: Value, places: Places) -> Value:
        """``value`` looked up at ``places``."""
        kept = [(f"x{d}", size) for d, (size, p) in enumerate(zip(value.shape, places, strict=True)) if p is None]
        axes, tables = [*self.rows.axes, *kept], list[Value]()
        index = [axis(f"x{d}", value.shape[d]) if p is None else _entry(p, tables) for d, p in enumerate(places)]
        return self.b.gather(value, tables, axes, [index, *(self.rows.index for _ in tables)])

    def kept(self, shape: Sequence[Size], places: Places) -> tuple[Size, ...]:
        """The shape of what is read of ``shape`` at ``places``."""
        return (*self.rows.shape, *(size for size, p in zip(shape, places, strict=True) if p is None))

    def as_value(self, place: Place) -> Value | None:
        """A place as integers over the rows; None where it is an expression of several axes."""
        if isinstance(place, Value):
            return place
        if isinstance(place, int):
            return self.b.expand(self.b.constant(place, I64), self.rows.shape, ())
        dim = next((d for d, each in enumerate(self.rows.index) if each == place), None)
        if dim is None:
            return None
        positions = self.b.op("iota", (), {"size": self.rows.shape[dim], "dtype": I64})
        return self.b.expand(positions, self.rows.shape, (dim,))

    def arithmetic(self, fn: str, place: Value, size: Size | Value) -> Value:
        """``place`` combined with a number, or with another place."""
        if not isinstance(size, Value):
            size = self.b.expand(self.b.number(size, place.dtype), self.rows.shape, ())
        return self.b.pointwise(fn, place, self.b.cast(size, place.dtype))


def _entry(place: Place, tables: list[Value], before: int = 0) -> Size:
    """A place in an index, the integers of which are an operand behind ``before`` others and those of ``tables``."""
    if not isinstance(place, Value):
        return place
    if place not in tables:
        tables.append(place)
    return IDX[before + tables.index(place) + 1]


def _is_read(places: Places) -> bool:
    return any(place is not None for place in places)


def _elementwise(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    return at.b.op(op.name, [operand(number, places) for number in range(len(op.inputs))], op.attrs)


def _iota(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    (place,) = places
    numbers = at.as_value(place) if place is not None else None
    return None if numbers is None else at.b.cast(numbers, op.attrs["dtype"])


def _permute(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    perm, first = op.attrs["perm"], len(at.rows.axes)
    inner = tuple(places[perm.index(d)] for d in range(len(perm)))
    kept = [d for d in range(len(perm)) if inner[d] is None]
    wanted = [first + kept.index(d) for d in perm if inner[d] is None]
    return _reordered(at.b, operand(0, inner), [*range(first), *wanted])


def _reordered(b: GraphBuilder, x: Value, perm: Sequence[int]) -> Value:
    """``x`` with its dimensions reordered; a gather gives its axes in any order."""
    made = next((op for op in reversed(b.ops) if x in op.outputs), None)
    if made is None or made.name != "gather" or len(made.inputs) == 1:
        return b.permute(x, perm)
    axes = made.attrs["axes"]
    return b.gather(made.inputs[0], made.inputs[1:], [axes[d] for d in perm], made.attrs["maps"])


def _expand(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    (x,), dims, first = op.inputs, op.attrs["dims"], len(at.rows.axes)
    inner = tuple(0 if n == 1 and places[d] is not None else places[d] for n, d in zip(x.shape, dims, strict=True))
    kept = [d for d, place in enumerate(places) if place is None]
    where = [first + kept.index(d) for d in dims if places[d] is None]
    shape = at.kept(op.output.shape, places)
    return at.b.expand(operand(0, inner), shape, [*(range(first) if _is_read(inner) else ()), *where])


def _slice(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    starts, sizes, steps = (op.attrs[name] for name in ("starts", "sizes", "steps"))
    each = zip(places, starts, steps, strict=True)
    inner = tuple(None if p is None else _affine(at, p, start, step) for p, start, step in each)
    kept, first = [d for d, p in enumerate(places) if p is None], len(at.rows.axes)
    attrs = {
        "starts": (*(0,) * first, *(starts[d] for d in kept)),
        "sizes": at.kept(sizes, places),
        "steps": (*(1,) * first, *(steps[d] for d in kept)),
    }
    return at.b.op("slice", [operand(0, inner)], attrs)


def _affine(at: Elsewhere, place: Place, start: Size, step: int) -> Place:
    if not isinstance(place, Value):
        return add(start, mul(step, place))
    scaled = place if step == 1 else at.arithmetic("mul", place, step)
    return scaled if start == 0 else at.arithmetic("add", scaled, start)


def _reshape(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    """Dimensions that are split or merged are all read at places, or none of them is."""
    x, out = op.inputs[0].shape, op.output.shape
    before, after = boundaries(x), boundaries(out)
    shared = [size for size in before if size in after]
    inner: list[Place | None] = [None] * len(x)
    if before[shared[-1]] != len(longer(x)) or after[shared[-1]] != len(longer(out)):
        return None
    for start, end in pairwise(shared):
        own, theirs = longer(x)[before[start] : before[end]], longer(out)[after[start] : after[end]]
        at_out = [places[d] for d in theirs]
        if all(place is None for place in at_out):
            continue
        found = _moved(at, at_out, [out[d] for d in theirs], [x[d] for d in own])
        if found is None:
            return None
        for d, place in zip(own, found, strict=True):
            inner[d] = place
    shape = at.kept(out, places)
    if _is_read(tuple(inner)):
        return at.b.reshape(operand(0, tuple(inner)), shape)
    first = len(at.rows.axes)
    return at.b.expand(at.b.reshape(operand(0, tuple(inner)), shape[first:]), shape, range(first, len(shape)))


def _moved(at: Elsewhere, places: Sequence[Place | None], out: Sequence[Size], x: Sequence[Size]) -> list[Place] | None:
    """Where dimensions of sizes ``x`` are read, if in their place others of sizes ``out`` are read at ``places``."""
    if len(out) == len(x) == 1:
        return [place for place in places if place is not None]
    flat: Value | None = None
    for place, size in zip(places, out, strict=True):
        if place is None or (value := at.as_value(place)) is None:
            return None
        flat = value if flat is None else at.arithmetic("add", at.arithmetic("mul", flat, size), value)
    found: list[Place] = []
    for number, size in enumerate(reversed(x)):
        assert flat is not None
        found.append(flat if number == len(x) - 1 else at.arithmetic("mod", flat, size))
        flat = at.arithmetic("floordiv", flat, size)
    return found[::-1]


def reduced(at: Elsewhere, op: Op, places: Places, operand: Operand, opened: Mapping[int, Place]) -> Value | None:
    """A reduction over the dims that are not ``opened``; of these, the element at a place."""
    if COMBINES[op.attrs["fn"]].position:
        return None
    dims, outer = op.attrs["dims"], iter(places)
    inner = tuple(opened.get(d) if d in dims else next(outer) for d in range(op.inputs[0].type.rank))
    kept = [d for d, place in enumerate(inner) if place is None]
    left = [len(at.rows.axes) + kept.index(d) for d in dims if d not in opened]
    return at.b.reduce(op.attrs["fn"], operand(0, inner), left)


def contracted(at: Elsewhere, op: Op, places: Places, operand: Operand, opened: Mapping[str, Place]) -> Value | None:
    """A contraction over the axes that are not ``opened``."""
    out = op.attrs["out"]
    chosen = {name: p for name, p in zip(out, places, strict=True) if p is not None} | dict(opened)
    read = read_operands(at, op, chosen, operand)
    if read is None:
        return None
    axes = [*at.rows.axes, *((name, size) for name, size in op.attrs["axes"] if name not in chosen)]
    kept = [*(name for name, _ in at.rows.axes), *(name for name in out if name not in chosen)]
    acc, dtype = op.attrs["acc"], op.attrs["dtype"]
    return at.b.contract(axes, [v for v, _ in read], [m for _, m in read], kept, acc=acc, dtype=dtype)


def read_operands(
    at: Elsewhere, op: Op, chosen: Mapping[str, Place], operand: Operand
) -> list[tuple[Value, tuple[Size, ...]]] | None:
    """The operands of a contraction and their maps, with the axes that are ``chosen`` read at places."""
    found: list[tuple[Value, tuple[Size, ...]]] = []
    for number, entries in enumerate(op.attrs["maps"]):
        places = _places_of(entries, dict(op.attrs["axes"]), chosen)
        if places is None:
            return None
        kept = tuple(e for e, place in zip(entries, places, strict=True) if place is None)
        found.append((operand(number, places), (*at.rows.index, *kept) if _is_read(places) else kept))
    return found


def _places_of(entries: Sequence[Size], axes: Mapping[str, Size], chosen: Mapping[str, Place]) -> Places | None:
    """Where map entries are read once ``chosen`` axes are; None where an entry mixes these with others."""
    found: list[Place | None] = []
    for entry in entries:
        names = [name for name in symbol_names(entry) if name in chosen]
        if not names:
            found.append(None)
        elif len(names) == 1 and entry == axis(names[0], axes[names[0]]):
            found.append(chosen[names[0]])
        else:
            values = {name: place for name in names if not isinstance(place := chosen[name], Value)}
            if len(values) < len(names) or any(name in axes and name not in chosen for name in symbol_names(entry)):
                return None
            found.append(substitute(entry, values))
    return tuple(found)


def _gather(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    """What it looks up stays whole; where, is read at the places."""
    axes = dict(op.attrs["axes"])
    chosen = {name: p for name, p in zip(axes, places, strict=True) if p is not None}
    tables: list[Value] = []
    maps: list[Sequence[Size]] = []
    for number, entries in enumerate(op.attrs["maps"][1:], start=1):
        inner = _places_of(entries, axes, chosen)
        if inner is None:
            return None
        kept = tuple(e for e, place in zip(entries, inner, strict=True) if place is None)
        tables.append(operand(number, inner))
        maps.append((*at.rows.index, *kept) if _is_read(inner) else kept)
    more: list[Value] = []
    index: list[Size] = []
    for entry, place in zip(op.attrs["maps"][0], _places_of(op.attrs["maps"][0], axes, chosen) or (), strict=False):
        index.append(entry if place is None else _entry(place, more, len(tables)))
    if len(index) != len(op.attrs["maps"][0]):
        return None
    whole = [*at.rows.axes, *((name, size) for name, size in axes.items() if name not in chosen)]
    return at.b.gather(op.inputs[0], [*tables, *more], whole, [index, *maps, *(at.rows.index for _ in more)])


def _concat(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    dim = op.attrs["dim"]
    if places[dim] is not None:
        return None
    pieces = [operand(number, places) for number in range(len(op.inputs))]
    return at.b.concat(pieces, len(at.rows.axes) + sum(place is None for place in places[:dim]))


def _pad(at: Elsewhere, op: Op, places: Places, operand: Operand) -> Value | None:
    low, high = op.attrs["low"], op.attrs["high"]
    if any(p is not None and (lo, hi) != (0, 0) for p, lo, hi in zip(places, low, high, strict=True)):
        return None
    first = (0,) * len(at.rows.axes)
    sides = {
        name: (*first, *(n for n, p in zip(op.attrs[name], places, strict=True) if p is None))
        for name in ("low", "high")
    }
    return at.b.op("pad", [operand(0, places)], {**sides, "value": op.attrs["value"]})


RULES: Mapping[str, Rule] = {
    "pointwise": _elementwise,
    "cast": _elementwise,
    "positions": lambda at, op, places, operand: operand(0, places),
    "iota": _iota,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "reshape": _reshape,
    "concat": _concat,
    "pad": _pad,
    "gather": _gather,
    "reduce": lambda at, op, places, operand: reduced(at, op, places, operand, {}),
    "contract": lambda at, op, places, operand: contracted(at, op, places, operand, {}),
}
