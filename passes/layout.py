"""Pass ``layout``: the order in memory of the buffers between kernels.

A buffer gets the order of dimensions in which its readers' addresses need fewest quotients and remainders: where ``[b,
h, i, d]`` is read as rows ``(b, i)`` of length ``(h, d)``, it is stored as ``[b, i, h, d]`` and the read is
contiguous::

    %o : bf16[b=1, h=8, i=128, d=64]   ->   %o : bf16[b=1, h=8, i=128, d=64] strides (65536, 64, 512, 1)

Of these, it gets the order in which fewest kernels move it across what else they move: a convolution gives ``[channel,
position]``, but what it reads and what reads it has neighbouring channels in neighbouring places, and so has the buffer
between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import ClassVar, TypeAlias

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import FloorDiv, Mod, Size, atoms
from rooftile.ir.strides import position, strides_of
from rooftile.ir.structure import Structures
from rooftile.passes.base import PassContext
from rooftile.passes.distinct import Distinct
from rooftile.passes.regions.access import is_next_along
from rooftile.passes.regions.contractions import has_dot
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import region_access

Index: TypeAlias = tuple[Size, ...]
MOST_DIMS = 5  # 120 orders at the most are tried
MUCH = 0.25  # of a buffer's elements: what else a kernel moves, if it is to have a say in the buffer's order


@dataclass(frozen=True)
class Move:
    """A region loads (``reads``) or stores its value ``number`` at ``index``; its outputs are numbered behind its
    inputs."""

    number: int
    index: Index
    reads: bool


@dataclass(frozen=True)
class Moves:
    """All that a region moves, over its ``axes``; ``dots``: it multiplies matrices."""

    every: tuple[Move, ...]
    axes: tuple[str, ...]
    dots: bool


@dataclass(frozen=True)
class Use:
    """A region moves a buffer at ``index``. ``beside``: the axes along which other values that it moves, of about its
    size, have neighbours in memory; none where matrices are multiplied, which takes either order."""

    index: Index
    reads: bool
    beside: frozenset[str]


@dataclass(frozen=True)
class Layout:
    """Chooses the strides of intermediate buffers, the last first: what the model returns has its order."""

    name: ClassVar[str] = "layout"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with strides on the buffers for which another order than row-major is better."""
        kept = {
            *graph.inputs,
            *graph.outputs,
            *(v for op in graph.ops if op.name == "extern" for v in (*op.inputs, *op.outputs)),
        }
        orders, chosen = Orders(graph, ctx.structures), dict[Hashable, tuple[int, ...]]()
        for value in reversed(orders.between):
            if value in kept or not 2 <= value.type.rank <= MOST_DIMS:
                continue
            uses = orders.uses(value)
            key = (value.shape, *uses)
            if key not in chosen:
                chosen[key] = best_order(value.shape, uses)
            if (order := chosen[key]) != tuple(range(value.type.rank)):
                orders.strides[value] = strides_of(value.shape, order)
        retyped = {v: Value(v.name, replace(v.type, strides=strides)) for v, strides in orders.strides.items()}
        return retype(graph, retyped) if retyped else graph


class Orders:
    """The buffers that one region writes and another reads, the ``strides`` chosen for them, and how they are used."""

    def __init__(self, graph: Graph, structures: Structures) -> None:
        regions = [op for op in graph.ops if op.name == "region"]
        read = {v for op in regions for v in op.inputs}
        self.between = [v for op in regions for v in op.outputs if v in read]
        self.strides: dict[Value, tuple[Size, ...]] = {}
        self._moves: dict[Value, list[tuple[Op, Moves]]] = {v: [] for v in self.between}
        self._lines: dict[Hashable, frozenset[str]] = {}
        known = Distinct[Moves](structures)
        for op in regions:
            if touched := self._moves.keys() & {*op.inputs, *op.outputs}:
                moves, _ = known.of(op.regions[0], partial(_moves, op.regions[0]))
                for value in touched:
                    self._moves[value].append((op, moves))

    def uses(self, value: Value) -> tuple[Use, ...]:
        """Every move of ``value``, beside what has strides so far."""
        found: list[Use] = []
        for op, moves in self._moves[value]:
            values = (*op.inputs, *op.outputs)
            least = MUCH * likely(value.type.numel)
            others = [m for m in moves.every if values[m.number] is not value]
            large = [m for m in others if not moves.dots and likely(values[m.number].type.numel) >= least]
            beside = frozenset[str]().union(*(self._in_line(values[m.number], m, moves.axes) for m in large))
            found += [Use(m.index, m.reads, beside) for m in moves.every if values[m.number] is value]
        return tuple(found)

    def _in_line(self, value: Value, move: Move, axes: Sequence[str]) -> frozenset[str]:
        """The axes along which what is moved has neighbours in memory."""
        strides = self.strides.get(value) or value.type.strides or strides_of(value.shape)
        at = position(move.index, strides)
        key = (at, axes)
        if key not in self._lines:
            self._lines[key] = frozenset(a for a in axes if is_next_along(at, a))
        return self._lines[key]


def _moves(body: Graph) -> Moves:
    access = region_access(body)[1]
    numbers = {v: n for n, v in enumerate(body.inputs)}
    loads = [Move(numbers[read.value], read.index, True) for read in access.loads()]
    stores = [Move(len(numbers) + n, access.stored_at(n, root).index, False) for n, root in access.roots]
    return Moves((*loads, *stores), tuple(access.axes), has_dot(access))


def best_order(shape: Sequence[Size], uses: Sequence[Use]) -> tuple[int, ...]:
    """The dimensions from outermost to innermost in memory; row-major where no other order is better."""
    natural = tuple(range(len(shape)))
    if not any(_troubles(shape, natural, uses)):
        return natural
    return min(
        permutations(natural), key=lambda order: (*_troubles(shape, order, uses), order[-1] != natural[-1], order)
    )


def _troubles(shape: Sequence[Size], order: Sequence[int], uses: Sequence[Use]) -> tuple[int, int]:
    """How many quotients and remainders the addresses of reads have, and how many uses move the buffer across what else
    is moved."""
    strides = strides_of(shape, order)
    divisions = across = 0
    for use in uses:
        at = position(use.index, strides)
        if use.reads:
            divisions += sum(isinstance(a, (FloorDiv, Mod)) for a in atoms(at))
        across += bool(use.beside) and not any(is_next_along(at, a) for a in use.beside)
    return divisions, across


def retype(graph: Graph, retyped: Mapping[Value, Value]) -> Graph:
    """``graph`` with values replaced by others of another type, inside the regions that write and read them too."""
    return replace(graph, ops=tuple(_retype_op(op, retyped) for op in graph.ops))


def _retype_op(op: Op, retyped: Mapping[Value, Value]) -> Op:
    if not any(v in retyped for v in (*op.inputs, *op.outputs)):
        return op
    inputs = tuple(retyped.get(v, v) for v in op.inputs)
    outputs = tuple(retyped.get(v, v) for v in op.outputs)
    if op.name != "region":
        return replace(op, inputs=inputs, outputs=outputs)
    body = op.regions[0]
    pairs = [*zip(body.inputs, inputs, strict=True), *zip(body.outputs, outputs, strict=True)]
    inner = {
        b: Value(b.name, replace(b.type, strides=o.type.strides)) for b, o in pairs if b.type.strides != o.type.strides
    }
    return replace(op, inputs=inputs, outputs=outputs, regions=(_rename(body, inner), *op.regions[1:]))


def _rename(body: Graph, new: Mapping[Value, Value]) -> Graph:
    def swap(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(new.get(v, v) for v in values)

    ops = tuple(replace(o, inputs=swap(o.inputs), outputs=swap(o.outputs)) for o in body.ops)
    return replace(body, inputs=swap(body.inputs), ops=ops, outputs=swap(body.outputs))
