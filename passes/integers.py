"""Pass ``integers``: integer arithmetic on positions is done in 32 bits where all its values fit.

torch counts in i64, which a GPU computes in several instructions. Positions, numbers and what is added, multiplied,
divided and compared from them lie between bounds that are known. Before and after::

    %i = iota() : i64[4096]                   %i_1 = iota() : i32[4096]
    %d = pointwise.sub(%rows, %columns)       %d_1 = pointwise.sub(%rows_1, %columns_1)
    %f = cast(%d) : f32[4096, 4096]           %f = cast(%d_1) : f32[4096, 4096]

A value that something else wants in 64 bits is cast back there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size, Symbol
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.ranges import LARGEST_SIZE
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.intervals import ARITHMETIC, Interval, hull
from rooftile.passes.editing import with_bodies
from rooftile.passes.liveness import live_ops


@dataclass(frozen=True)
class Integers:
    """Rewrites 64-bit integer arithmetic in regions."""

    name: ClassVar[str] = "integers"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no position is computed with."""
        return with_bodies(graph, narrowed)


def narrowed(body: Graph) -> Graph:
    """``body`` with its arithmetic on positions in 32 bits; the same object where there is none."""
    if not any(op.name == "iota" and op.output.dtype is I64 for op in body.ops):
        return body
    narrowing = _Narrowing(body)
    for op in body.ops:
        narrowing.write(op)
    for value in body.outputs:
        narrowing.widen(value)
    return replace(body, ops=tuple(live_ops(narrowing.builder.ops, body.outputs)))


# A choice lies where what it chooses from does: its condition has no interval.
_ARITHMETIC: Mapping[str, Callable[..., Interval]] = {
    **ARITHMETIC,
    "neg": lambda a: (-a[1], -a[0]),
    "abs": lambda a: (0, max(abs(a[0]), abs(a[1]))),
    "truncdiv": ARITHMETIC["floordiv"],
    "where": lambda a, b: hull((a, b)),
}
_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


class _Narrowing:
    """The ops written so far; ``narrow`` holds 64-bit values in 32 bits, with the intervals that they lie in."""

    def __init__(self, body: Graph) -> None:
        self.builder = GraphBuilder.beside(body)
        self.narrow: dict[Value, tuple[Value, Interval]] = {}
        self.written: set[Value] = set(body.inputs)

    def write(self, op: Op) -> None:
        """Put ``op`` down, in 32 bits where that holds all it computes."""
        interval = self._interval(op)
        wide = [v for v in op.inputs if v.dtype is I64]
        if interval is not None and interval[0] >= I32.limits[0] and interval[1] <= I32.limits[1]:
            self.narrow[op.output] = (self._in_32_bits(op), interval)
        elif wide and self._takes_any_width(op) and all(v in self.narrow for v in wide):
            inputs = tuple(self.narrow[v][0] if v in self.narrow else v for v in op.inputs)
            self._append(replace(op, inputs=inputs))
        else:
            for value in wide:
                self.widen(value)
            self._append(op)

    def widen(self, value: Value) -> None:
        """Make ``value`` itself known, by a cast where it has been computed in 32 bits."""
        if value not in self.written:
            self.builder.cast(self.narrow[value][0], I64)
            self._append(replace(self.builder.ops.pop(), outputs=(value,)))

    def _append(self, op: Op) -> None:
        self.builder.ops.append(op)
        self.written.update(op.outputs)

    def _in_32_bits(self, op: Op) -> Value:
        inputs = tuple(self.narrow[v][0] if v.dtype is I64 else v for v in op.inputs)
        attrs = {**op.attrs, **({"dtype": I32} if "dtype" in op.attrs else {})}
        with self.builder.at(op.loc):
            return self.builder.op(op.name, inputs, attrs, name=op.output.name)

    def _takes_any_width(self, op: Op) -> bool:
        return op.name == "cast" or (op.name == "pointwise" and op.attrs["fn"] in _COMPARISONS)

    def _interval(self, op: Op) -> Interval | None:
        """In which interval the op's values lie; None where it is no 64-bit arithmetic, or that isn't known."""
        if op.name == "extern" or op.output.dtype is not I64:
            return None
        if op.name == "iota":
            largest = _largest(op.attrs["size"])
            return None if largest is None else (0, max(largest - 1, 0))
        if op.name == "constant":
            return (int(op.attrs["value"]),) * 2
        operands = [self.narrow[v][1] for v in op.inputs if v in self.narrow]
        if not operands or any(v.dtype is I64 and v not in self.narrow for v in op.inputs):
            return None
        if op.name == "pointwise" and op.attrs["fn"] in _ARITHMETIC:
            return _ARITHMETIC[op.attrs["fn"]](*operands)
        if GRAPH_OPS[op.name].view and op.name not in ("concat", "pad"):
            return operands[0]
        return None


def _largest(size: Size) -> int | None:
    """The largest value that a size may have; None for arithmetic on sizes."""
    if isinstance(size, int):
        return size
    ((monomial, coefficient), *others) = size.terms
    if others or coefficient != 1 or len(monomial) != 1 or not isinstance(monomial[0], Symbol):
        return None
    return LARGEST_SIZE if monomial[0].hi is None else monomial[0].hi
