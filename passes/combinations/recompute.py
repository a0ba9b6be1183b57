"""Computes a value over positions of its line instead of over pairs of indices."""

from __future__ import annotations

from collections.abc import Mapping

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.substitution import substitute
from rooftile.passes.combinations.line import Line
from rooftile.passes.combinations.sources import Source, coefficients, is_followed, operand_indices

_POSITION = "t"
_Placed = tuple[Value, tuple[str, ...]]  # a value, and the axes that its dimensions are


class Recomputed:
    """Puts what ``value`` is at every position of ``line`` into ``builder``: ``value`` with its ``free`` dimensions and
    the line's after them."""

    def __init__(
        self,
        builder: GraphBuilder,
        producers: Mapping[Value, Op],
        known: Mapping[Value, Source],
        value: Value,
        line: Line,
    ) -> None:
        self._builder, self._producers, self._known = builder, producers, known
        self._sizes: dict[str, Size] = {f"f{d}": value.shape[d] for d in line.free} | {_POSITION: line.extent}
        self._placed: dict[tuple[Value, tuple[Size, ...]], _Placed] = {}
        free = [(d, axis(f"f{d}", value.shape[d])) for d in line.free]
        index = line.index(axis(_POSITION, line.extent), free, value.type.rank)
        self.result = self._over(self._at(value, index), tuple(self._sizes))

    def _at(self, value: Value, index: tuple[Size, ...]) -> _Placed:
        """``value`` at ``index``, over the axes that occur there."""
        key = (value, index)
        if key not in self._placed:
            self._placed[key] = self._compute(value, index)
        return self._placed[key]

    def _compute(self, value: Value, index: tuple[Size, ...]) -> _Placed:
        linear, op = self._known[value].linear, self._producers.get(value)
        if linear is not None:
            return self._sum(value, substitute(linear, _by_name(index)))
        if not value.type.rank:
            return value, ()
        if op is None or not (is_followed(op) or op.name == "gather"):
            return self._read(value, (), (index,))
        with self._builder.at(op.loc):
            if op.name == "gather":
                own = {name: e for (name, _), e in zip(op.attrs["axes"], index, strict=True)}
                maps = tuple(tuple(substitute(e, own) for e in access) for access in op.attrs["maps"])
                return self._gather(op, maps)
            operands = [
                self._at(v, tuple(substitute(e, _by_name(index)) for e in access))
                for v, access in zip(op.inputs, operand_indices(op), strict=True)
            ]
            return self._elementwise(op, operands)

    def _sum(self, value: Value, e: Size) -> _Placed:
        """The integer ``e`` over the axes in it."""
        b, found = self._builder, coefficients(e) or {}
        names = tuple(name for name in self._sizes if name in found)
        start = substitute(e, dict.fromkeys(names, 0))
        total = b.number(start)
        for name in names:
            steps = b.op("iota", (), {"size": self._sizes[name], "dtype": I64})
            multiple = b.pointwise("mul", steps, b.constant(found[name], I64)) if found[name] != 1 else steps
            total = b.pointwise("add", self._over((multiple, (name,)), names), total)
        return b.cast(total, value.dtype), names

    def _elementwise(self, op: Op, operands: list[_Placed]) -> _Placed:
        if op.name not in ("pointwise", "cast"):
            return operands[0]
        used = {name for _, names in operands for name in names}
        names = tuple(name for name in self._sizes if name in used)
        inputs = [self._over(operand, names) for operand in operands]
        return self._builder.op(op.name, inputs, op.attrs), names

    def _gather(self, op: Op, maps: tuple[tuple[Size, ...], ...]) -> _Placed:
        """The reads of a gather, whose indices are computed at positions too."""
        indices = [self._at(v, access) for v, access in zip(op.inputs[1:], maps[1:], strict=True)]
        own = tuple(tuple(axis(name, self._sizes[name]) for name in names) for _, names in indices)
        return self._read(op.inputs[0], tuple(v for v, _ in indices), (maps[0], *own))

    def _read(self, value: Value, indices: tuple[Value, ...], maps: tuple[tuple[Size, ...], ...]) -> _Placed:
        used = {s.name for access in maps for e in access for s in symbols(e)}
        names = tuple(name for name in self._sizes if name in used)
        return self._builder.gather(value, indices, [(name, self._sizes[name]) for name in names], maps), names

    def _over(self, placed: _Placed, names: tuple[str, ...]) -> Value:
        """A value spread over the axes ``names``."""
        value, own = placed
        if own == names:
            return value
        return self._builder.expand(value, [self._sizes[n] for n in names], [names.index(n) for n in own])


def _by_name(index: tuple[Size, ...]) -> dict[str, Size]:
    return {f"x{d}": e for d, e in enumerate(index)}


def read_back(builder: GraphBuilder, recomputed: Value, value: Value, line: Line) -> Value:
    """``value``, read from what it is at every position of its line."""
    own = [(f"x{d}", size) for d, size in enumerate(value.shape)]
    index = (*(axis(f"x{d}", value.shape[d]) for d in line.free), line.at)
    return builder.gather(recomputed, (), own, (index,))
