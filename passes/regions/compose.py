"""A region's accesses from its body and a choice of axes.

Composing access maps backwards from the outputs turns views into index arithmetic. One value read through two axes
(self-attention's ``x`` as ``q`` and as ``k``) is two reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product as cartesian

from rooftile.ir.core import Graph, Value
from rooftile.ir.expr import Size, Symbol, axis, symbols
from rooftile.ir.graph_ops import flatten_index
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import equal, equal_shapes
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.access import Access, NoCommonSpace, Node, Read, Space, index_reads, is_segment, joined
from rooftile.passes.regions.operands import Walk, scattered_index


def compose(body: Graph, space: Space | None = None) -> Access:
    """The accesses of ``body`` over the axes of ``space``.

    Raises:
        NoCommonSpace: an output can't be stored from the iteration space of the last output.
    """
    return _Composer(body, space or Space()).access()


def with_ends(access: Access) -> Access:
    """``access`` with the axes that number the ends of segments, which a kernel has and its schedule doesn't."""
    if not access.segments:
        return access
    free = _free_axes(access.nodes, access.indirect, access.segments)
    return replace(access, axes=access.axes | dict(access.segments.values()), free=free)


_PLACED = {"scatter": 1, "arrange": 0}  # the operand whose elements the op puts into place


class _Composer:
    """Where the outputs are stored, and what is read to compute them."""

    def __init__(self, body: Graph, space: Space) -> None:
        self.body, self.space = body, space
        self.walk = Walk(space, frozenset(s.name for s in body.size_symbols()))
        self.placing = {op.output: op for op in body.ops if op.name in _PLACED}
        # What is computed for each output: of an op that puts elements into place, these.
        self.stored = [self.placed(v) for v in body.outputs]

    def access(self) -> Access:
        roots = self.find_roots()
        walk = self.walk
        places = {(n, r): self.place(n, r) for n, r in roots if self.body.outputs[n] in self.placing}
        walk.visit(self.body)
        for value in self.body.inputs:
            for read in walk.wanted.get(value, ()):
                walk.nodes[read] = Node(None, ())
        ordered = _operands_first([r for _, r in roots], places.values(), walk.nodes, walk.indirect)
        free = _free_axes(ordered, walk.indirect, walk.segments)
        ends = {name for name, _ in walk.segments.values()}
        free = {read: axes - ends for read, axes in free.items()} if ends else free
        axes = self._used_axes(ordered, roots)
        return Access(self.body, axes, tuple(roots), ordered, free, walk.indirect, walk.segments, places)

    def placed(self, value: Value) -> Value:
        """What is stored for ``value``."""
        op = self.placing.get(value)
        return value if op is None else op.inputs[_PLACED[op.name]]

    def place(self, number: int, root: Read) -> Read:
        """The element of output ``number`` at which ``root`` is put."""
        op = self.placing[self.body.outputs[number]]
        if op.name == "arrange":
            row = self.walk.indirect_index(Read(op.inputs[1], root.index[:1], root.guard), op.attrs["size"])
            return Read(op.output, (row, *root.index[1:]), root.guard)
        names = [name for name, _ in op.attrs["axes"]]
        index = scattered_index(self.walk, op, dict(zip(names, root.index, strict=True)), root.guard)
        return Read(op.output, index, root.guard)

    def find_roots(self) -> list[tuple[int, Read]]:
        """Where each output is stored: the last one spans the space, the others are read in its computation, or have
        its shape or its first dimensions."""
        roots: list[tuple[int, Read]] = []
        main = len(self.stored) - 1
        index = self.root_index(self.stored[main])
        for number, value in enumerate(self.stored):
            if number == main or equal_shapes(value.shape, self.stored[main].shape):
                roots += [(number, self.walk.want(Read(value, i))) for i in self.part_indices(index)]
        taps = [n for n in range(main) if not any(n == r for r, _ in roots)]
        return roots + self._taps(taps, roots, index)

    def root_index(self, value: Value) -> tuple[Size, ...]:
        letters = value.type.axes or tuple(f"i{d}" for d in range(value.type.rank))
        names = [None if s == 1 else self.walk.fresh_axis(a, s) for a, s in zip(letters, value.shape, strict=True)]
        return tuple(0 if n is None else self.walk.expr(n) for n in names)

    def part_indices(self, index: tuple[Size, ...]) -> list[tuple[Size, ...]]:
        """One index for each combination of values of the ``parts`` axes."""
        found: list[tuple[Size, ...]] = []
        for choice in cartesian(*(range(int(str(self.walk.axes[p]))) for p in self.space.parts)):
            fixed: dict[str, Size] = dict(zip(self.space.parts, choice, strict=True))
            found.append(tuple(substitute(e, fixed) for e in index))
        return found

    def _taps(
        self, outputs: Sequence[int], roots: list[tuple[int, Read]], index: tuple[Size, ...]
    ) -> list[tuple[int, Read]]:
        """Outputs that the computation of the others reads anyway, at indices that cover them, or that have the first
        dimensions of the main one, which is stored at ``index``."""
        if not outputs:
            return []
        probe = Walk(self.space, self.walk.sizes)
        probe.raw, probe.axes = dict(self.walk.raw), dict(self.walk.axes)
        for _, read in roots:
            probe.want(read)
        probe.visit(self.body)
        found: list[tuple[int, Read]] = []
        for number in outputs:
            value = self.stored[number]
            reads = [r for r in probe.wanted.get(value, ()) if not r.guard]
            covering = [r for r in reads if covers(r.index, value.shape)]
            prefix = self._prefix(value)
            if not covering and prefix is None:
                raise NoCommonSpace(value)
            places = [r.index for r in covering[:1]] or self.part_indices(_first(index, prefix or 0, value.type.rank))
            found += [(number, self.walk.want(Read(value, place))) for place in dict.fromkeys(places)]
        return found

    def _prefix(self, value: Value) -> int | None:
        """How many of the first dimensions of the main output are those of ``value``, if its other ones have size 1."""
        main, shape = self.stored[-1].shape, value.shape
        count = next((n for n, (a, b) in enumerate(zip(shape, main, strict=False)) if not equal(a, b)), len(shape))
        return count if count <= len(main) and all(size == 1 for size in shape[count:]) else None

    def _used_axes(self, nodes: Mapping[Read, Node], roots: Sequence[tuple[int, Read]]) -> dict[str, Size]:
        """The leaf axes in use: in the order in which the outputs' dimensions read them, then the reduced ones."""
        exprs = dict.fromkeys(e for read in (*(r for _, r in roots), *nodes) for e in read.index)
        used = dict.fromkeys(name for e in exprs for name in sorted(s.name for s in symbols(e)))
        used |= dict.fromkeys(a for node in nodes.values() for a in node.bound)
        ends = (name for name, _ in self.walk.segments.values())
        skipped = {*self.space.parts, *self.walk.indirect, *ends}
        return {name: self.walk.axes[name] for name in used if name in self.walk.axes and name not in skipped}


def _first(index: Sequence[Size], count: int, rank: int) -> tuple[Size, ...]:
    """The first ``count`` of an index, and the only position along the other dimensions of ``rank``."""
    return (*index[:count], *(0 for _ in range(rank - count)))


def covers(index: Sequence[Size], shape: Sequence[Size]) -> bool:
    """Whether ``index`` runs over every element of ``shape`` as its axes run: a mixed radix number over distinct
    axes."""
    position = flatten_index(index, shape)
    strides: list[tuple[Symbol, Size]] = []
    for symbol in symbols(position):
        if symbol.extent is None:
            continue
        stride = add(substitute(position, {symbol.name: 1}), mul(substitute(position, {symbol.name: 0}), -1))
        strides.append((symbol, stride))
    total: Size = 1
    rebuilt: Size = 0
    for symbol, stride in strides:
        total = mul(total, symbol.extent or 1)
        rebuilt = add(rebuilt, mul(stride, axis(symbol.name, symbol.extent or 1)))
    whole: Size = 1
    for size in shape:
        whole = mul(whole, size)
    return equal(total, whole) and equal(rebuilt, position)


def _operands_first(
    roots: Sequence[Read], places: Iterable[Read], nodes: Mapping[Read, Node], indirect: Mapping[str, Read]
) -> dict[Read, Node]:
    ordered: dict[Read, Node] = {}
    wanted = [*roots, *(index for place in places for index in index_reads(place, indirect).values())]
    stack: list[tuple[Read, bool]] = [(read, False) for read in reversed(wanted)]
    while stack:
        read, done = stack.pop()
        if read in ordered:
            continue
        if done:
            ordered[read] = nodes[read]
            continue
        stack.append((read, True))
        stack += [(operand, False) for operand in reversed(nodes[read].operands) if operand not in ordered]
        if indirect:
            stack += [(index, False) for index in index_reads(read, indirect).values()]
    return ordered


def _free_axes(
    nodes: Mapping[Read, Node], indirect: Mapping[str, Read], segments: Mapping[str, tuple[str, Size]]
) -> dict[Read, frozenset[str]]:
    free: dict[Read, frozenset[str]] = {}
    for read, node in nodes.items():
        if is_segment(node) and any(s.name in segments for s in symbols(read.index[0])):
            free[read] = frozenset()
            continue
        own: list[Size] = [e for case in (*node.cases, read.guard) for e, _ in case]
        if node.op is None or node.op.name in ("iota", "segment"):
            own += read.index
        axes = joined([free[operand] for operand in node.operands])
        for name in {s.name for e in own for s in symbols(e) if s.extent is not None}:
            axes |= free[indirect[name]] if name in indirect else {name}
        free[read] = axes.difference(node.bound) if node.bound else axes
    return free
