"""Values and index arithmetic of a region for every element of its tiles, as ops on whole tensors.

Each axis of a region that is cut into tiles becomes two dimensions, which tile and which element of it; an axis of
single positions stays one. What lies beyond the end of an axis is read at the axis's start instead, and ``inside``
tells which elements those are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias

from rooftile.ir.builder import IDX, GraphBuilder
from rooftile.ir.core import Value
from rooftile.ir.division import ceildiv, divides
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Atom, FloorDiv, Size, Symbol, axis, of, symbols, terms_of
from rooftile.ir.schedule import AxisRole
from rooftile.ir.substitution import substitute
from rooftile.passes.masks.predicates import Predicates
from rooftile.passes.regions.access import Access, Read

Over: TypeAlias = tuple[str, ...]  # the axes whose tiles and elements are a value's dimensions, in order


def count(cut: AxisRole) -> Size:
    """The number of tiles of an axis."""
    return ceildiv(cut.extent, cut.tile)


@dataclass
class Elements:
    """Builds values over the tiles of ``cuts``, by axis, into ``builder``, whose inputs are those of the region's
    body that it needs."""

    builder: GraphBuilder
    access: Access
    predicates: Predicates
    cuts: Mapping[str, AxisRole]
    copied: dict[Value, Value] = field(default_factory=dict)

    def over(self, names: frozenset[str]) -> Over:
        """The axes ``names`` in the order in which they are a value's dimensions."""
        return tuple(name for name in self.cuts if name in names)

    def sizes(self, over: Over) -> list[tuple[str, Size]]:
        """The dimensions of a value over these axes. They are named by their places: two axes that are cut alike, as
        the queries and the keys of one sequence are, have the same values."""
        found: list[tuple[str, Size]] = []
        for place, name in enumerate(over):
            cut = self.cuts[name]
            found.append((f"tile{place}", count(cut)))
            found += [(f"lane{place}", cut.tile)] if cut.tile > 1 else []
        return found

    def lanes(self, over: Over) -> list[int]:
        """Which dimensions of a value over these axes number elements of tiles."""
        return [d for d, (name, _) in enumerate(self.sizes(over)) if name.startswith("lane")]

    def value(self, read: Read) -> tuple[Value, Over]:
        """A value of the region at every element of the axes that it varies along."""
        over = self.over(self.access.free[read])
        indices = self.access.index_reads(read)
        found = [self.value(index) for index in indices.values()]
        names: dict[str, Size] = {name: IDX[n] for n, name in enumerate(indices, start=1)}
        names |= {s.name: 0 for e in read.index for s in symbols(e) if s.extent is not None and s.name not in indices}
        names |= {name: self._position(name, place) for place, name in enumerate(over)}
        own = tuple(self._among(each, over) for _, each in found)
        maps = (tuple(substitute(e, names) for e in read.index), *own)
        return self.builder.gather(self._copy(read.value), [v for v, _ in found], self.sizes(over), maps), over

    def _position(self, name: str, place: int) -> Size:
        """The position along an axis that is cut, in terms of its tile and the element of it."""
        cut = self.cuts[name]
        if cut.tile == 1:
            return axis(f"tile{place}", cut.extent)
        at = axis(f"tile{place}", count(cut)) * cut.tile + axis(f"lane{place}", cut.tile)
        return at if divides(cut.tile, cut.extent) else at % cut.extent

    def _among(self, own: Over, over: Over) -> tuple[Size, ...]:
        """The index in a value over the axes ``own`` at the dimensions of one over ``over``."""
        dims = self.sizes(over)
        return tuple(axis(*dims[d]) for d in self.dims(own, over))

    def dims(self, own: Over, over: Over) -> list[int]:
        """Which dimensions of a value over the axes ``over`` those over ``own`` are."""
        owners = [name for name in over for _ in range(1 + (self.cuts[name].tile > 1))]
        return [d for d, name in enumerate(owners) if name in own]

    def _copy(self, value: Value) -> Value:
        """A value of the region's body, with all that computes it."""
        if value not in self.copied:
            op = self.access.body.producers().get(value)
            if op is None:
                self.copied[value] = self.builder.input(value.name, value.type)
            else:
                inputs = [self._copy(v) for v in op.inputs]
                self.copied[value] = self.builder.op(op.name, inputs, op.attrs, name=value.name, loc=op.loc)
        return self.copied[value]

    def inside(self, over: Over) -> Value | None:
        """Which elements lie within the extents of these axes; None where all do."""
        ragged = [n for n in over if not divides(self.cuts[n].tile, self.cuts[n].extent)]
        found = [self._within(name, over) for name in ragged]
        return reduce(lambda a, b: self.builder.pointwise("and", a, b), found) if found else None

    def _within(self, name: str, over: Over) -> Value:
        extent = self.cuts[name].extent
        return self.builder.pointwise("lt", self.number(axis(name, extent), over), self.size(extent))

    # Index arithmetic.

    def number(self, size: Size, over: Over) -> Value:
        """Index arithmetic over axes of ``over``, at each of their elements; beyond an extent it goes on."""
        total: Value | None = None
        for monomial, coefficient in terms_of(size).items():
            factors = [self._atom(atom, over) for atom in monomial]
            factors += [self.builder.constant(coefficient, I64)] if coefficient != 1 or not factors else []
            term = reduce(lambda a, b: self.builder.pointwise("mul", a, b), factors)
            total = term if total is None else self.builder.pointwise("add", total, term)
        total = self.builder.constant(0, I64) if total is None else total
        return self.builder.broadcast(total, [size for _, size in self.sizes(over)])

    def _atom(self, atom: Atom, over: Over) -> Value:
        if isinstance(atom, Symbol):
            read = self.predicates.read_of(atom)
            if read is not None:
                value, own = self.value(read)
                return self.spread(self.builder.cast(value, I64), own, over)
            return self._along(atom.name, over) if atom.extent is not None else self.size(of(atom))
        fn = "floordiv" if isinstance(atom, FloorDiv) else "mod"
        return self.builder.pointwise(fn, self.number(atom.num, over), self.number(atom.den, over))

    def _along(self, name: str, over: Over) -> Value:
        """The positions of an axis."""
        cut, b = self.cuts[name], self.builder
        at = b.op("iota", (), {"size": count(cut), "dtype": I64})
        if cut.tile > 1:
            first = b.pointwise("mul", at, b.constant(cut.tile, I64))
            lane = b.op("iota", (), {"size": cut.tile, "dtype": I64})
            shape = (count(cut), cut.tile)
            at = b.pointwise("add", b.expand(first, shape, (0,)), b.expand(lane, shape, (1,)))
        return self.spread(at, (name,), over)

    def size(self, size: Size) -> Value:
        """A size as a scalar."""
        return self.builder.number(size)

    def spread(self, value: Value, own: Over, over: Over) -> Value:
        """A value over the axes ``own``, over those and others."""
        if own == over:
            return value
        return self.builder.expand(value, [size for _, size in self.sizes(over)], self.dims(own, over))


def needs(access: Access, read: Read) -> Sequence[Value]:
    """The values of the region's body that ``read`` is computed from, itself among them."""
    producers = access.body.producers()
    found: dict[Value, None] = {}
    stack = [read.value]
    while stack:
        value = stack.pop()
        if value not in found:
            found[value] = None
            op = producers.get(value)
            stack.extend(op.inputs if op is not None else ())
    return list(found)
