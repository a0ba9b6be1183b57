"""A region as accesses: every value of its body at the index expressions at which it is read, over the region's own
axes.

This is plain data, made by ``compose``; ``fuse`` asks it for legality and cost, ``tile`` for roles, ``lower`` turns it
into a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from rooftile.ir.blocks import steps_along
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, symbol_names
from rooftile.ir.graph_ops import GRAPH_OPS, flatten_index
from rooftile.ir.scalar import EXTREMES, SCALARS, Scalar
from rooftile.ir.strides import position

_T = TypeVar("_T")
Guard = tuple[tuple[Size, Size], ...]


@dataclass(frozen=True)
class Read:
    """A value at an index (one expression per dimension), wanted only where ``guard`` holds: ``0 <= expr < extent`` for
    each pair."""

    value: Value
    index: tuple[Size, ...]
    guard: Guard = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.value, self.index, self.guard)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Node:
    """How a read is computed: by ``op`` from ``operands`` (by loading the buffer where ``op`` is None); ``bound`` names
    the axes it reduces.

    ``cases`` belongs to concat, pad and scan: the guard under which each operand is the result, or counts in it.
    """

    op: Op | None
    operands: tuple[Read, ...]
    bound: tuple[str, ...] = ()
    cases: tuple[Guard, ...] = ()


class NoCommonSpace(Exception):
    """An output of a region is not computed anywhere in the iteration space of the others; ``value`` is that output."""

    def __init__(self, value: Value) -> None:
        super().__init__(f"%{value.name} is not computed over the axes of the region's other outputs")
        self.value = value


def is_extreme(node: Node) -> bool:
    """Whether a read is a maximum or minimum."""
    return node.op is not None and node.op.name == "reduce" and node.op.attrs["fn"] in EXTREMES.values()


def is_same(node: Node) -> bool:
    """Whether the node's value is its operand's, at another index."""
    return node.op is not None and len(node.operands) == 1 and GRAPH_OPS[node.op.name].view and node.op.name != "pad"


def number_of(node: Node) -> float | None:
    """The number that a read is; None where it is none."""
    return float(node.op.attrs["value"]) if node.op is not None and node.op.name == "constant" else None


def function_of(node: Node) -> Scalar | None:
    """The function of single elements that a read is computed by; None where it is no such one."""
    return SCALARS[node.op.attrs["fn"]] if node.op is not None and node.op.name == "pointwise" else None


def is_segment(node: Node) -> bool:
    """Whether a read is the number of the segment that a position lies in."""
    return node.op is not None and node.op.name == "segment"


@dataclass(frozen=True, eq=False)
class Access:
    """A region's iteration space and reads; compared by identity.

    ``axes`` are the leaf axes with their extents; ``roots`` the stores ``(output number, read)``; ``nodes`` every read
    in an order in which operands come first; ``free`` the leaf axes that each read varies over. A symbol in
    ``indirect`` stands in index expressions for the value of an integer read (a gather's index). ``segments`` gives for
    each ragged axis the axis that numbers the ends of its segments, with its extent: no axis of the space, since a tile
    lies in one segment. ``places`` says where a root is stored whose output is a scatter or arranged: at an index of
    the output; the root reads what is put there.
    """

    body: Graph
    axes: dict[str, Size]
    roots: tuple[tuple[int, Read], ...]
    nodes: dict[Read, Node]
    free: dict[Read, frozenset[str]]
    indirect: dict[str, Read]
    segments: dict[str, tuple[str, Size]] = field(default_factory=dict)
    places: dict[tuple[int, Read], Read] = field(default_factory=dict)

    def stored_at(self, number: int, root: Read) -> Read:
        """The element of output ``number`` that ``root`` is stored at."""
        return self.places.get((number, root), root)

    def index_reads(self, read: Read) -> dict[str, Read]:
        """The integer reads that ``read``'s index and guard take values from, by the symbols that stand for them."""
        return index_reads(read, self.indirect)

    def reductions(self) -> list[Read]:
        """The reads that reduce an axis, operands first."""
        return list(self._reductions)

    @cached_property
    def names(self) -> frozenset[str]:
        """What a further axis may not be called: the axes' names and those of the run-time sizes."""
        return frozenset(self.axes).union(s.name for s in self.body.size_symbols())

    @cached_property
    def _reductions(self) -> tuple[Read, ...]:
        return tuple(read for read, node in self.nodes.items() if node.bound)

    def bound_axes(self) -> list[str]:
        """The axes that are reduced, each once, in the order of the reductions."""
        return list(dict.fromkeys(name for node in self.nodes.values() for name in node.bound))

    def loads(self) -> list[Read]:
        """The reads of the region's inputs."""
        return [read for read, node in self.nodes.items() if node.op is None]


@dataclass
class Space:
    """How a region's axes are chosen: ``defs`` replaces an axis by an expression over others (a merged or split axis, a
    reduced axis identified with another), ``leaves`` gives the extents of axes that only occur in definitions,
    ``parts`` lists leaf axes whose slices are computed as separate tiles, ``ragged`` those of which no tile reaches
    from one segment into the next.
    """

    defs: dict[str, Size] = field(default_factory=dict)
    leaves: dict[str, Size] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    ragged: tuple[str, ...] = ()


def address(read: Read) -> Size:
    """The position in memory, in elements, that ``read`` stands for."""
    strides = read.value.type.strides
    if strides is None:
        return flatten_index(read.index, read.value.shape)
    return position(read.index, strides)


def is_in_line(load: Read, axis: str, tile: int = 1) -> bool:
    """Whether neighbours along ``axis`` are neighbours in memory; in tiles that start at multiples of ``tile``."""
    return is_next_along(address(load), axis, tile)


def is_next_along(at: Size, axis: str, tile: int = 1) -> bool:
    """Whether the position ``at`` grows by one where ``axis`` does; in tiles that start at multiples of ``tile``."""
    steps = steps_along(at, axis, tile)
    return steps is not None and steps[0][-1].stride == 1


def joined(sets: Sequence[frozenset[_T]]) -> frozenset[_T]:
    """The union of ``sets``: the same object where there is but one."""
    return sets[0] if len(sets) == 1 else frozenset().union(*sets)


def index_reads(read: Read, indirect: Mapping[str, Read]) -> dict[str, Read]:
    """The reads of ``indirect`` that stand in ``read``'s index and guard, by their symbols."""
    if not indirect:
        return {}
    exprs = (*read.index, *[e for e, _ in read.guard]) if read.guard else read.index
    names: set[str] = set()
    for e in exprs:
        if not isinstance(e, int):
            names |= symbol_names(e) & indirect.keys()
    return {name: indirect[name] for name in sorted(names)} if names else {}
