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
from rooftile.ir.division import floordiv
from rooftile.ir.expr import Size


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
    """An axis of ``extent`` positions in ``count`` parts of ``size``."""

    extent: Size
    count: int

    @property
    def size(self) -> Size:
        """How long a part is."""
        return floordiv(self.extent, self.count)


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

    def parts_first(self, value: Value, dim: int) -> Copy:
        """``value`` with dimension ``dim`` cut, and the parts as its first dimension: a view."""
        shape = (*value.shape[:dim], self.cut.count, self.cut.size, *value.shape[dim + 1 :])
        rows = self.builder.reshape(value, shape)
        order = (dim, *(d for d in range(len(shape)) if d != dim))
        return self.named(self.builder.permute(rows, order), value.type.axes, True)

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
