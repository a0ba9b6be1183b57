"""A region as accesses: every value of its body at the index expressions at which it is read, over the region's own
axes.

Composing access maps backwards from the outputs turns views into index arithmetic: a permute reorders an index, a
reshape divides and takes remainders,
a concat guards its pieces, a gather reads an index from a value. One value read through two axes (self-attention's
``x`` as ``q`` and as ``k``) is two reads.
What comes out is plain data; ``fuse`` asks it for legality and cost, ``tile`` for roles, ``lower`` turns it into a
kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product as cartesian

from rooftile.ir.core import Graph, Op, Value, unique_name
from rooftile.ir.expr import Size, Symbol, axis, symbols
from rooftile.ir.graph_ops import flatten_index, unflatten_index
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, equal, in_range
from rooftile.ir.substitution import substitute

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


@dataclass(frozen=True, eq=False)
class Access:
    """A region's iteration space and reads; compared by identity.

    ``axes`` are the leaf axes with their extents; ``roots`` the stores ``(output number, read)``; ``nodes`` every read
    in an order in which operands come first;
    ``free`` the leaf axes that each read varies over. A symbol in ``indirect`` stands in index expressions for the
    value of an integer read (a gather's index).
    """

    body: Graph
    axes: dict[str, Size]
    roots: tuple[tuple[int, Read], ...]
    nodes: dict[Read, Node]
    free: dict[Read, frozenset[str]]
    indirect: dict[str, Read]

    def index_reads(self, read: Read) -> dict[str, Read]:
        """The integer reads that ``read``'s index and guard take values from, by the symbols that stand for them."""
        return _index_reads(read, self.indirect)

    def reductions(self) -> list[Read]:
        """The reads that reduce an axis, operands first."""
        return [read for read, node in self.nodes.items() if node.bound]

    def loads(self) -> list[Read]:
        """The reads of the region's inputs."""
        return [read for read, node in self.nodes.items() if node.op is None]


@dataclass
class Space:
    """How a region's axes are chosen: ``defs`` replaces an axis by an expression over others (a merged or split axis, a
    reduced axis identified with another),
    ``leaves`` gives the extents of axes that only occur in definitions, ``parts`` lists leaf axes whose slices are
    computed as separate tiles.
    """

    defs: dict[str, Size] = field(default_factory=dict)
    leaves: dict[str, Size] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


class _Composer:
    """Walks the body from its outputs to its inputs, once."""

    def __init__(self, body: Graph, space: Space) -> None:
        self.body, self.space = body, space
        self.producers = body.producers()
        self.axes: dict[str, Size] = dict(space.leaves)
        self.raw: dict[str, Size] = {}
        self.bound_names: dict[Op, tuple[str, ...]] = {}
        self.wanted: dict[Value, dict[Read, None]] = {}
        self.nodes: dict[Read, Node] = {}
        self.indirect: dict[str, Read] = {}

    def fresh_axis(self, wanted: str, extent: Size) -> str:
        name = unique_name(wanted, self.raw)
        self.raw[name] = extent
        if name not in self.space.defs:
            self.axes.setdefault(name, extent)
        return name

    def expr(self, name: str) -> Size:
        """The axis ``name`` over leaf axes."""
        if name in self.space.defs:
            return self.space.defs[name]
        return axis(name, self.axes.get(name, self.raw.get(name, 1)))

    def want(self, read: Read) -> Read:
        self.wanted.setdefault(read.value, {})[read] = None
        return read

    def root_index(self, value: Value) -> tuple[Size, ...]:
        letters = value.type.axes or tuple(f"i{d}" for d in range(value.type.rank))
        names = [None if s == 1 else self.fresh_axis(a, s) for a, s in zip(letters, value.shape, strict=True)]
        return tuple(0 if n is None else self.expr(n) for n in names)

    def compose(self) -> Access:
        roots = self.find_roots()
        for op in reversed(self.body.ops):
            for read in list(self.wanted.get(op.output, ())):
                self.nodes[read] = COMPOSE[op.name](self, op, read)
        for value in self.body.inputs:
            for read in self.wanted.get(value, ()):
                self.nodes[read] = Node(None, ())
        ordered = _operands_first(roots, self.nodes, self.indirect)
        free = _free_axes(ordered, self.indirect)
        return Access(self.body, self._used_axes(ordered, roots), tuple(roots), ordered, free, self.indirect)

    def indirect_index(self, read: Read, extent: Size) -> Size:
        """The value of ``read`` as an index expression, known to be in ``0 .. extent - 1``."""
        for name, known in self.indirect.items():
            if known == read:
                return axis(name, extent)
        name = f"at{len(self.indirect)}"
        self.indirect[name] = self.want(read)
        return axis(name, extent)

    def _used_axes(self, nodes: Mapping[Read, Node], roots: Sequence[tuple[int, Read]]) -> dict[str, Size]:
        """The leaf axes in use: in the order in which the outputs' dimensions read them, then the reduced ones."""
        exprs = dict.fromkeys(e for read in (*(r for _, r in roots), *nodes) for e in read.index)
        used = dict.fromkeys(name for e in exprs for name in sorted(s.name for s in symbols(e)))
        used |= dict.fromkeys(a for node in nodes.values() for a in node.bound)
        skipped = {*self.space.parts, *self.indirect}
        return {name: self.axes[name] for name in used if name in self.axes and name not in skipped}

    def find_roots(self) -> list[tuple[int, Read]]:
        """Where each output is stored: the last one spans the space, the others are read in its computation or have its
        shape."""
        roots: list[tuple[int, Read]] = []
        main = len(self.body.outputs) - 1
        index = self.root_index(self.body.outputs[main])
        for number, value in enumerate(self.body.outputs):
            if number == main or _same_shape(value, self.body.outputs[main]):
                roots += [(number, self.want(Read(value, i))) for i in self.part_indices(index)]
        taps = [n for n in range(main) if not any(n == r for r, _ in roots)]
        return roots + self._taps(taps, roots)

    def part_indices(self, index: tuple[Size, ...]) -> list[tuple[Size, ...]]:
        """One index for each combination of values of the ``parts`` axes."""
        found: list[tuple[Size, ...]] = []
        for choice in cartesian(*(range(int(str(self.axes[p]))) for p in self.space.parts)):
            fixed: dict[str, Size] = dict(zip(self.space.parts, choice, strict=True))
            found.append(tuple(substitute(e, fixed) for e in index))
        return found

    def _taps(self, outputs: Sequence[int], roots: list[tuple[int, Read]]) -> list[tuple[int, Read]]:
        """Outputs that the computation of the others reads anyway, at indices that cover them."""
        if not outputs:
            return []
        probe = _Composer(self.body, self.space)
        probe.raw, probe.axes = dict(self.raw), dict(self.axes)
        for _, read in roots:
            probe.want(read)
        for op in reversed(self.body.ops):
            for read in list(probe.wanted.get(op.output, ())):
                probe.nodes[read] = COMPOSE[op.name](probe, op, read)
        found: list[tuple[int, Read]] = []
        for number in outputs:
            value = self.body.outputs[number]
            reads = [r for r in probe.wanted.get(value, ()) if not r.guard]
            covering = [r for r in reads if covers(r.index, value.shape)]
            if not covering:
                raise NoCommonSpace(value)
            found.append((number, self.want(covering[0])))
        return found


class NoCommonSpace(Exception):
    """An output of a region is not computed anywhere in the iteration space of the others; ``value`` is that output."""

    def __init__(self, value: Value) -> None:
        super().__init__(f"%{value.name} is not computed over the axes of the region's other outputs")
        self.value = value


def compose(body: Graph, space: Space | None = None) -> Access:
    """The accesses of ``body`` over the axes of ``space``.

    Raises:
        NoCommonSpace: an output can't be stored from the iteration space of the last output.
    """
    return _Composer(body, space or Space()).compose()


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


def _same_shape(a: Value, b: Value) -> bool:
    return a.type.rank == b.type.rank and all(equal(x, y) for x, y in zip(a.shape, b.shape, strict=True))


def _index_reads(read: Read, indirect: Mapping[str, Read]) -> dict[str, Read]:
    if not indirect:
        return {}
    exprs = (*read.index, *(e for e, _ in read.guard))
    names = sorted({s.name for e in exprs for s in symbols(e) if s.name in indirect})
    return {name: indirect[name] for name in names}


def _operands_first(
    roots: Sequence[tuple[int, Read]], nodes: Mapping[Read, Node], indirect: Mapping[str, Read]
) -> dict[Read, Node]:
    ordered: dict[Read, Node] = {}
    stack: list[tuple[Read, bool]] = [(read, False) for _, read in reversed(roots)]
    while stack:
        read, done = stack.pop()
        if read in ordered:
            continue
        if done:
            ordered[read] = nodes[read]
        else:
            stack.append((read, True))
            stack.extend((operand, False) for operand in reversed(nodes[read].operands))
            stack.extend((index, False) for index in _index_reads(read, indirect).values())
    return ordered


def _free_axes(nodes: Mapping[Read, Node], indirect: Mapping[str, Read]) -> dict[Read, frozenset[str]]:
    free: dict[Read, frozenset[str]] = {}
    for read, node in nodes.items():
        own: list[Size] = [e for case in (*node.cases, read.guard) for e, _ in case]
        if node.op is None or node.op.name == "iota":
            own += read.index
        axes = frozenset().union(*(free[operand] for operand in node.operands))
        for name in {s.name for e in own for s in symbols(e) if s.extent is not None}:
            axes |= free[indirect[name]] if name in indirect else {name}
        free[read] = axes.difference(node.bound)
    return free


def _leaf(self: _Composer, op: Op, read: Read) -> Node:
    return Node(op, ())


def _elementwise(self: _Composer, op: Op, read: Read) -> Node:
    return Node(op, tuple(self.want(Read(v, read.index, read.guard)) for v in op.inputs))


def _through(self: _Composer, op: Op, read: Read, index: Sequence[Size]) -> Node:
    return Node(op, (self.want(Read(op.inputs[0], tuple(index), read.guard)),))


def _permute(self: _Composer, op: Op, read: Read) -> Node:
    index: list[Size] = [0] * len(read.index)
    for d, p in enumerate(op.attrs["perm"]):
        index[p] = read.index[d]
    return _through(self, op, read, index)


def _expand(self: _Composer, op: Op, read: Read) -> Node:
    x = op.inputs[0]
    return _through(
        self, op, read, [0 if s == 1 else read.index[d] for s, d in zip(x.shape, op.attrs["dims"], strict=True)]
    )


def _reshape(self: _Composer, op: Op, read: Read) -> Node:
    return _through(self, op, read, reshape_index(read.index, op.output.shape, op.inputs[0].shape))


def reshape_index(index: Sequence[Size], out: Sequence[Size], source: Sequence[Size]) -> tuple[Size, ...]:
    """The index in shape ``source`` of the element at ``index`` in shape ``out``; dimensions that both share stay as
    they are."""
    if len(out) == len(source) and all(equal(a, b) for a, b in zip(out, source, strict=True)):
        return tuple(index)
    head = 0
    while head < min(len(out), len(source)) and equal(out[head], source[head]):
        head += 1
    tail = 0
    while tail < min(len(out), len(source)) - head and equal(out[-1 - tail], source[-1 - tail]):
        tail += 1
    stop, end = len(out) - tail, len(source) - tail
    position = flatten_index(index[head:stop], out[head:stop])
    return (*index[:head], *unflatten_index(position, source[head:end]), *index[stop:])


def _slice(self: _Composer, op: Op, read: Read) -> Node:
    starts, steps = op.attrs["starts"], op.attrs["steps"]
    return _through(self, op, read, [add(s, mul(t, e)) for s, t, e in zip(starts, steps, read.index, strict=True)])


def _concat(self: _Composer, op: Op, read: Read) -> Node:
    dim = op.attrs["dim"]
    operands: list[Read] = []
    cases: list[Guard] = []
    offset: Size = 0
    for x in op.inputs:
        at = add(read.index[dim], mul(offset, -1))
        index = (*read.index[:dim], at, *read.index[dim + 1 :])
        offset = add(offset, x.shape[dim])
        if in_range(at, x.shape[dim]):
            return Node(op, (self.want(Read(x, index, read.guard)),), cases=((),))
        if not _disjoint(at, x.shape[dim]):
            case = ((at, x.shape[dim]),)
            operands.append(self.want(Read(x, index, _join(read.guard, case))))
            cases.append(case)
    return Node(op, tuple(operands), cases=tuple(cases))


def _disjoint(at: Size, extent: Size) -> bool:
    return at_least(mul(add(at, 1), -1), 0) or at_least(add(at, mul(extent, -1)), 0)


def _join(guard: Guard, more: Guard) -> Guard:
    return guard + tuple(pair for pair in more if pair not in guard)


def _pad(self: _Composer, op: Op, read: Read) -> Node:
    x = op.inputs[0]
    index = tuple(add(e, mul(low, -1)) for e, low in zip(read.index, op.attrs["low"], strict=True))
    if any(_disjoint(e, size) for e, size in zip(index, x.shape, strict=True)):
        return Node(op, ())
    case = tuple((e, size) for e, size in zip(index, x.shape, strict=True) if not in_range(e, size))
    return Node(op, (self.want(Read(x, index, _join(read.guard, case))),), cases=(case,))


def _bound(self: _Composer, op: Op, wanted: Sequence[tuple[str, Size]]) -> tuple[str, ...]:
    if op not in self.bound_names:
        self.bound_names[op] = tuple(self.fresh_axis(name, extent) for name, extent in wanted)
    return self.bound_names[op]


def _leaves(exprs: Sequence[Size]) -> tuple[str, ...]:
    names = {s.name: None for e in exprs for s in sorted(symbols(e), key=lambda s: s.name) if s.extent is not None}
    return tuple(names)


def _reduce(self: _Composer, op: Op, read: Read) -> Node:
    x, dims = op.inputs[0], op.attrs["dims"]
    letters = x.type.axes or tuple(f"r{d}" for d in range(x.type.rank))
    bound = _bound(self, op, [(letters[d], x.shape[d]) for d in dims if x.shape[d] != 1])
    exprs = iter([self.expr(name) for name in bound])
    kept = iter(read.index)
    index = tuple((0 if x.shape[d] == 1 else next(exprs)) if d in dims else next(kept) for d in range(x.type.rank))
    return Node(op, (self.want(Read(x, index, read.guard)),), _leaves([self.expr(n) for n in bound]))


def _scan(self: _Composer, op: Op, read: Read) -> Node:
    """A running combination is a reduction of what lies at or before the read's position."""
    x, dim = op.inputs[0], op.attrs["dim"]
    letters = x.type.axes or tuple(f"r{d}" for d in range(x.type.rank))
    bound = _bound(self, op, [(letters[dim], x.shape[dim])] if x.shape[dim] != 1 else [])
    at = self.expr(bound[0]) if bound else 0
    before: Guard = ((add(read.index[dim], mul(at, -1)), x.shape[dim]),) if bound else ()
    index = (*read.index[:dim], at, *read.index[dim + 1 :])
    return Node(op, (self.want(Read(x, index, read.guard)),), _leaves([self.expr(n) for n in bound]), (before,))


def _contract(self: _Composer, op: Op, read: Read) -> Node:
    sizes, out = dict(op.attrs["axes"]), op.attrs["out"]
    inner = [(name, size) for name, size in sizes.items() if name not in out and size != 1]
    bound = _bound(self, op, inner)
    values: dict[str, Size] = dict.fromkeys(sizes, 0)
    values |= dict(zip(out, read.index, strict=True))
    values |= {name: self.expr(b) for (name, _), b in zip(inner, bound, strict=True)}
    operands = []
    for x, access in zip(op.inputs, op.attrs["maps"], strict=True):
        operands.append(self.want(Read(x, tuple(substitute(e, values) for e in access), read.guard)))
    return Node(op, tuple(operands), _leaves([self.expr(n) for n in bound]))


def _gather(self: _Composer, op: Op, read: Read) -> Node:
    values = {name: e for (name, _), e in zip(op.attrs["axes"], read.index, strict=True)}
    for number, (index, access) in enumerate(zip(op.inputs[1:], op.attrs["maps"][1:], strict=True), start=1):
        extent = next(
            (s for s, e in zip(op.inputs[0].shape, op.attrs["maps"][0], strict=True) if _mentions(e, number)), 1
        )
        at = Read(index, tuple(substitute(e, values) for e in access), read.guard)
        values[f"idx{number}"] = self.indirect_index(at, extent)
    return _through(self, op, read, [substitute(e, values) for e in op.attrs["maps"][0]])


def _mentions(expr: Size, number: int) -> bool:
    return any(s.name == f"idx{number}" for s in symbols(expr))


COMPOSE = {
    "constant": _leaf,
    "size": _leaf,
    "iota": _leaf,
    "pointwise": _elementwise,
    "cast": _elementwise,
    "permute": _permute,
    "expand": _expand,
    "reshape": _reshape,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "reduce": _reduce,
    "scan": _scan,
    "contract": _contract,
    "gather": _gather,
}
