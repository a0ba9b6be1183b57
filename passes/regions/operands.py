"""At which indices an op's operands are read when its result is read at given indices: one row per op.

A view is only a change of index (``view_index``). A concat guards its pieces, a gather reads an index from a value, a
reduction adds an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rooftile.ir.core import Graph, Op, Value, unique_name
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, in_range
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.access import Guard, NoCommonSpace, Node, Read, Space
from rooftile.passes.regions.view_index import VIEWED_AT


class Walk:
    """One walk from a region's outputs to its inputs: the reads ``wanted`` of each value, how each is computed
    (``nodes``), and the axes that turn up (``raw``; ``axes`` are those that no definition replaces). No axis has the
    name of one of the run-time ``sizes``."""

    def __init__(self, space: Space, sizes: frozenset[str] = frozenset()) -> None:
        self.space, self.sizes = space, sizes
        self.axes: dict[str, Size] = dict(space.leaves)
        self.raw: dict[str, Size] = {}
        self.wanted: dict[Value, dict[Read, None]] = {}
        self.nodes: dict[Read, Node] = {}
        self.indirect: dict[str, Read] = {}
        self.segments: dict[str, tuple[str, Size]] = {}
        self._bound_names: dict[Op, tuple[str, ...]] = {}

    def visit(self, body: Graph) -> None:
        """Follow what is wanted through the ops of ``body``, last to first."""
        for op in reversed(body.ops):
            for read in list(self.wanted.get(op.output, ())):
                self.nodes[read] = ROWS[op.name](self, op, read)

    def fresh_axis(self, wanted: str, extent: Size) -> str:
        """A new axis, named ``wanted`` where that is free."""
        name = unique_name(wanted, self.raw.keys() | self.sizes if self.sizes else self.raw)
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
        """``read``, which is to be computed."""
        self.wanted.setdefault(read.value, {})[read] = None
        return read

    def indirect_index(self, read: Read, extent: Size) -> Size:
        """The value of ``read`` as an index expression, known to be in ``0 .. extent - 1``."""
        for name, known in self.indirect.items():
            if known == read:
                return axis(name, extent)
        name = unique_name(f"at{len(self.indirect)}", self.sizes)
        self.indirect[name] = self.want(read)
        return axis(name, extent)

    def bound(self, op: Op, wanted: Sequence[tuple[str, Size]]) -> tuple[str, ...]:
        """The axes that ``op`` reduces, the same ones for all reads of its result."""
        if op not in self._bound_names:
            self._bound_names[op] = tuple(self.fresh_axis(name, extent) for name, extent in wanted)
        return self._bound_names[op]


def _leaf(walk: Walk, op: Op, read: Read) -> Node:
    return Node(op, ())


def _segment(walk: Walk, op: Op, read: Read) -> Node:
    """Along a ragged axis, one number for each tile, told by the ends that are read over an axis of their own."""
    ends = op.inputs[0]
    (at,) = symbols(read.index[0]) or (None,)
    if at is None or at.name not in walk.space.ragged or axis(at.name, walk.axes[at.name]) != read.index[0]:
        return Node(op, (walk.want(Read(ends, (0,))),))
    (name,) = walk.bound(op, [(f"{at.name}_segment", ends.shape[0])])
    walk.segments[at.name] = (name, ends.shape[0])
    return Node(op, (walk.want(Read(ends, (0 if ends.shape[0] == 1 else walk.expr(name),))),))


def _elementwise(walk: Walk, op: Op, read: Read) -> Node:
    return Node(op, tuple(walk.want(Read(v, read.index, read.guard)) for v in op.inputs))


def _through(walk: Walk, op: Op, read: Read, index: Sequence[Size]) -> Node:
    return Node(op, (walk.want(Read(op.inputs[0], tuple(index), read.guard)),))


def _view(walk: Walk, op: Op, read: Read) -> Node:
    return _through(walk, op, read, VIEWED_AT[op.name](op, read.index))


def _concat(walk: Walk, op: Op, read: Read) -> Node:
    dim = op.attrs["dim"]
    operands: list[Read] = []
    cases: list[Guard] = []
    offset: Size = 0
    for x in op.inputs:
        at = add(read.index[dim], mul(offset, -1))
        index = (*read.index[:dim], at, *read.index[dim + 1 :])
        offset = add(offset, x.shape[dim])
        if in_range(at, x.shape[dim]):
            return Node(op, (walk.want(Read(x, index, read.guard)),), cases=((),))
        if not _disjoint(at, x.shape[dim]):
            case = ((at, x.shape[dim]),)
            operands.append(walk.want(Read(x, index, _join(read.guard, case))))
            cases.append(case)
    return Node(op, tuple(operands), cases=tuple(cases))


def _disjoint(at: Size, extent: Size) -> bool:
    return at_least(mul(add(at, 1), -1), 0) or at_least(add(at, mul(extent, -1)), 0)


def _join(guard: Guard, more: Guard) -> Guard:
    return guard + tuple(pair for pair in more if pair not in guard)


def _pad(walk: Walk, op: Op, read: Read) -> Node:
    x = op.inputs[0]
    index = tuple(add(e, mul(low, -1)) for e, low in zip(read.index, op.attrs["low"], strict=True))
    if any(_disjoint(e, size) for e, size in zip(index, x.shape, strict=True)):
        return Node(op, ())
    case = tuple((e, size) for e, size in zip(index, x.shape, strict=True) if not in_range(e, size))
    return Node(op, (walk.want(Read(x, index, _join(read.guard, case))),), cases=(case,))


def _leaves(exprs: Sequence[Size]) -> tuple[str, ...]:
    names = {s.name: None for e in exprs for s in sorted(symbols(e), key=lambda s: s.name) if s.extent is not None}
    return tuple(names)


def _reduce(walk: Walk, op: Op, read: Read) -> Node:
    x, dims = op.inputs[0], op.attrs["dims"]
    letters = x.type.axes or tuple(f"r{d}" for d in range(x.type.rank))
    bound = walk.bound(op, [(letters[d], x.shape[d]) for d in dims if x.shape[d] != 1])
    exprs = iter([walk.expr(name) for name in bound])
    kept = iter(read.index)
    index = tuple((0 if x.shape[d] == 1 else next(exprs)) if d in dims else next(kept) for d in range(x.type.rank))
    return Node(op, (walk.want(Read(x, index, read.guard)),), _leaves([walk.expr(n) for n in bound]))


def _scan(walk: Walk, op: Op, read: Read) -> Node:
    """A running combination is a reduction of what lies at or before the read's position."""
    x, dim = op.inputs[0], op.attrs["dim"]
    letters = x.type.axes or tuple(f"r{d}" for d in range(x.type.rank))
    bound = walk.bound(op, [(letters[dim], x.shape[dim])] if x.shape[dim] != 1 else [])
    at = walk.expr(bound[0]) if bound else 0
    before: Guard = ((add(read.index[dim], mul(at, -1)), x.shape[dim]),) if bound else ()
    index = (*read.index[:dim], at, *read.index[dim + 1 :])
    return Node(op, (walk.want(Read(x, index, read.guard)),), _leaves([walk.expr(n) for n in bound]), (before,))


def _contract(walk: Walk, op: Op, read: Read) -> Node:
    sizes, out = dict(op.attrs["axes"]), op.attrs["out"]
    inner = [(name, size) for name, size in sizes.items() if name not in out and size != 1]
    bound = walk.bound(op, inner)
    values: dict[str, Size] = dict.fromkeys(sizes, 0)
    values |= dict(zip(out, read.index, strict=True))
    values |= {name: walk.expr(b) for (name, _), b in zip(inner, bound, strict=True)}
    operands = []
    for x, access in zip(op.inputs, op.attrs["maps"], strict=True):
        operands.append(walk.want(Read(x, tuple(substitute(e, values) for e in access), read.guard)))
    return Node(op, tuple(operands), _leaves([walk.expr(n) for n in bound]))


def _gather(walk: Walk, op: Op, read: Read) -> Node:
    values = {name: e for (name, _), e in zip(op.attrs["axes"], read.index, strict=True)}
    return _through(walk, op, read, _indirect(walk, op, 1, values, read.guard))


def scattered_index(walk: Walk, op: Op, values: Mapping[str, Size], guard: Guard) -> tuple[Size, ...]:
    """Where a scatter puts the element at ``values`` of its axes, if ``guard`` holds."""
    return _indirect(walk, op, 2, dict(values), guard)


def _indirect(walk: Walk, op: Op, first: int, values: dict[str, Size], guard: Guard) -> tuple[Size, ...]:
    """The map of operand 0 at ``values`` of the op's axes; its index operands are those from ``first`` on."""
    x, place = op.inputs[0], op.attrs["maps"][0]
    for number, (index, access) in enumerate(zip(op.inputs[first:], op.attrs["maps"][first:], strict=True), start=1):
        extent = next((s for s, e in zip(x.shape, place, strict=True) if _mentions(e, number)), 1)
        at = Read(index, tuple(substitute(e, values) for e in access), guard)
        values[f"idx{number}"] = walk.indirect_index(at, extent)
    return tuple(substitute(e, values) for e in place)


def _mentions(expr: Size, number: int) -> bool:
    return any(s.name == f"idx{number}" for s in symbols(expr))


def _arrange(walk: Walk, op: Op, read: Read) -> Node:
    """Nothing tells which row a position was written from: what is arranged is read from memory alone."""
    raise NoCommonSpace(op.output)


ROWS: Mapping[str, Callable[[Walk, Op, Read], Node]] = {
    "constant": _leaf,
    "size": _leaf,
    "iota": _leaf,
    "segment": _segment,
    "pointwise": _elementwise,
    "cast": _elementwise,
    **dict.fromkeys(VIEWED_AT, _view),
    "concat": _concat,
    "pad": _pad,
    "reduce": _reduce,
    "scan": _scan,
    "contract": _contract,
    "gather": _gather,
    "arrange": _arrange,
}
