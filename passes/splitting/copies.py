"""A region's ops once more, with an axis cut into parts.

Whatever varies along the axis gets a new first dimension, the parts, and its own is as long as a part. What is computed
from reductions over the axis gets the first dimension alone, while these reductions are a part's. ``rows`` says how
each op is written then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value, unique_name
from rooftile.ir.division import ceildiv, divides, floordiv
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, equal


class NotCut(Exception):
    """An op does not pass a cut axis on; ``value`` is its result."""

    def __init__(self, value: Value) -> None:
        super().__init__(f"%{value.name} is computed across the parts")
        self.value = value


@dataclass(frozen=True)
class Copy:
    """A value of the new region; ``parted`` where its first dimension are the parts."""

    value: Value
    parted: bool


@dataclass(frozen=True)
class Cut:
    """An axis of ``extent`` positions in ``count`` parts of ``size``.

    Where that many parts don't divide it, parts are multiples of ``even`` positions, and the last ones reach beyond the
    end: what is read there is 0, and counts in no reduction.
    """

    extent: Size
    count: int
    even: int

    @property
    def exact(self) -> bool:
        """Whether the parts end where the axis does."""
        return divides(self.count, self.extent)

    @property
    def size(self) -> Size:
        """How long a part is."""
        if self.exact:
            return floordiv(self.extent, self.count)
        return mul(self.even, ceildiv(self.extent, self.even * self.count))

    @property
    def padded(self) -> Size:
        """How long all parts are together."""
        return mul(self.count, self.size)


class Copies:
    """Copies of what is asked for of ``body``, appended to ``builder``.

    ``swept`` are the reductions over the cut axis: ``reduction`` says what stands for them.
    """

    def __init__(
        self,
        body: Graph,
        builder: GraphBuilder,
        cut: Cut,
        rows: Mapping[str, Callable[[Copies, Op, int | None], Copy]],
        swept: Collection[Op],
        reduction: Callable[[Copies, Op], Copy],
    ) -> None:
        self.builder, self.cut, self.rows = builder, cut, rows
        self.swept, self.reduction = swept, reduction
        self.producers = body.producers()
        self.known: dict[tuple[Value, int | None], Copy] = {}

    def of(self, value: Value, dim: int | None) -> Copy:
        """The copy of ``value``, whose dimension ``dim`` is the cut axis (None: it has none that is cut).

        Raises:
            NotCut: something below does not pass the cut axis on.
        """
        key = (value, dim)
        if key not in self.known:
            op = self.producers.get(value)
            self.known[key] = self._input(value, dim) if op is None else self._computed(op, dim)
        return self.known[key]

    def _input(self, value: Value, dim: int | None) -> Copy:
        if dim is None:
            return Copy(value, False)
        return self.parts_first(value, dim)

    def _computed(self, op: Op, dim: int | None) -> Copy:
        return self.reduction(self, op) if op in self.swept else self.rows[op.name](self, op, dim)

    def is_loaded(self, value: Value) -> bool:
        """Whether ``value`` is an input of the region, up to views."""
        op = self.producers.get(value)
        return op is None or (len(op.inputs) == 1 and GRAPH_OPS[op.name].view and self.is_loaded(op.inputs[0]))

    def parts_first(self, value: Value, dim: int) -> Copy:
        """``value`` with dimension ``dim`` cut, and the parts as its first dimension: a view."""
        if not equal(value.shape[dim], self.cut.padded):
            value = self.padded(value, dim)
        shape = (*value.shape[:dim], self.cut.count, self.cut.size, *value.shape[dim + 1 :])
        rows = self.builder.reshape(value, shape)
        order = (dim, *(d for d in range(len(shape)) if d != dim))
        return self.named(self.builder.permute(rows, order), value.type.axes, True)

    def padded(self, value: Value, dim: int) -> Value:
        """``value`` with zeros along ``dim`` up to the end of the last part."""
        none = (0,) * value.type.rank
        more = add(self.cut.padded, mul(self.cut.extent, -1))
        high = tuple(more if d == dim else 0 for d in range(value.type.rank))
        zero = 0.0 if value.dtype.is_float else value.dtype.kind != "bool" and 0
        return self.builder.op("pad", [value], {"low": none, "high": high, "value": zero})

    def only_inside(self, value: Value, dim: int, identity: float) -> Value:
        """``value``, which has parts, with ``identity`` at the positions along ``dim`` that lie beyond the end."""
        if self.cut.exact:
            return value
        builder, dtype = self.builder, I32 if at_least(add(2**31 - 1, mul(self.cut.padded, -1)), 0) else I64
        position = builder.op("iota", (), {"size": self.cut.padded, "dtype": dtype})
        inside = builder.pointwise("lt", position, builder.cast(builder.size(self.cut.extent), dtype))
        parts = builder.expand(builder.reshape(inside, (self.cut.count, self.cut.size)), value.shape, (0, dim + 1))
        return builder.pointwise("where", parts, value, builder.constant(identity, value.dtype))

    def shape(self, shape: Sequence[Size], dim: int | None) -> tuple[Size, ...]:
        """``shape`` with dimension ``dim`` as long as a part."""
        return tuple(self.cut.size if d == dim else size for d, size in enumerate(shape))

    def with_parts(self, copies: Sequence[Copy]) -> tuple[list[Value], bool]:
        """Operands that go together: where one has parts, all have."""
        if not any(c.parted for c in copies):
            return [c.value for c in copies], False
        return [c.value if c.parted else self.spread(c.value) for c in copies], True

    def spread(self, value: Value) -> Value:
        """``value``, the same for every part."""
        dims = tuple(range(1, value.type.rank + 1))
        return self.builder.expand(value, (self.cut.count, *value.shape), dims)

    def emit(self, op: Op, inputs: Sequence[Value], attrs: Mapping[str, Any], parted: bool) -> Copy:
        """``op`` on other operands with other attributes, under its own names."""
        with self.builder.at(op.loc):
            value = self.builder.op(op.name, inputs, attrs, name=op.output.name)
        return self.named(value, op.output.type.axes, parted)

    def named(self, value: Value, axes: tuple[str, ...] | None, parted: bool) -> Copy:
        """The last op's result with its dimensions named."""
        if axes is not None:
            letters = (unique_name("p", axes), *axes) if parted else axes
            last = self.builder.ops[-1]
            value = Value(value.name, replace(value.type, axes=letters))
            self.builder.ops[-1] = replace(last, outputs=(value,))
        return Copy(value, parted)
