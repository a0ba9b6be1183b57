"""Rule Split over a concatenated axis: what is computed from pieces side by side is computed for each piece, and a
reduction combines the reductions over the pieces.

``max_j concat(s, t)_j  =  max(max_j s_j, max_j t_j)``, and ``f(concat(s, t)) = concat(f(s), f(t))`` for every function
of single elements. A slice that lies in one piece reads that piece alone, so that with one column joined to a row the
row keeps its own axis. A contraction is a sum, too: ``sum_k q_k concat(s, t)_k = sum_k q'_k s_k + sum_k q''_k t_k``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, equal_shapes
from rooftile.ir.scalar import COMBINES
from rooftile.ir.substitution import substitute
from rooftile.passes.liveness import live_ops
from rooftile.passes.rules.steps import Step


@dataclass(frozen=True)
class Pieces:
    """A value as ``values`` one after another along ``dim``."""

    dim: int
    values: tuple[Value, ...]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """How long each piece is."""
        return tuple(v.shape[self.dim] for v in self.values)


def apply(body: Graph) -> tuple[Graph, tuple[Step, ...]] | None:
    """``body`` with every reduction and slice of concatenated values done on their pieces; None where there are
    none."""
    if not any(op.name in SOURCES for op in body.ops):
        return None
    builder = GraphBuilder.beside(body)
    split = _Splitting(builder)
    for op in body.ops:
        with builder.at(op.loc):
            split.visit(op)
    if not split.steps:
        return None
    return replace(body, ops=tuple(live_ops(builder.ops, body.outputs))), tuple(split.steps)


def apply_to_contraction(graph: Graph, op: Op, producers: Mapping[Value, Op]) -> tuple[Graph, tuple[Op, ...]] | None:
    """``graph`` with the contraction ``op`` as the sum of contractions over the pieces of an operand, and these; None
    where no operand is concatenated along an axis that is summed."""
    behind = _behind(op, producers)
    if not any(each.name in SOURCES for each in behind):
        return None
    builder = GraphBuilder.beside(graph)
    split = _Splitting(builder)
    with builder.at(op.loc):
        for each in behind:
            made = split.made_of(each)
            if isinstance(made, Pieces):
                split.pieces[each.output] = made
        parts = next((p for n in range(len(op.inputs)) if (p := _contracted(split, op, n)) is not None), None)
        if parts is None:
            return None
        found = tuple(each for each in builder.ops if each.output in parts)
        builder.cast(_added(builder, parts), op.output.dtype)
    builder.ops[-1] = replace(builder.ops[-1], outputs=op.outputs)
    place = graph.ops.index(op)
    ops = live_ops([*graph.ops[:place], *builder.ops, *graph.ops[place + 1 :]], graph.outputs)
    return replace(graph, ops=tuple(ops)), found


def _behind(op: Op, producers: Mapping[Value, Op]) -> list[Op]:
    """The ops that lead from what is concatenated to operands of ``op``, by transposes and by functions of single
    elements and what is repeated; operands first. (Halves that are rotated are of no use apart.)"""
    ordered: dict[Op, None] = {}
    stack = [(producers[v], False) for v in op.inputs if v in producers]
    while stack:
        each, done = stack.pop()
        if done:
            ordered[each] = None
        elif each not in ordered and (each.name in SOURCES or _leads_on(each, producers)):
            stack.append((each, True))
            if each.name not in SOURCES:
                stack.extend((producers[v], False) for v in each.inputs if v in producers)
    return list(ordered)


def _leads_on(op: Op, producers: Mapping[Value, Op]) -> bool:
    if op.name != "pointwise":
        return op.name in ("cast", "permute")
    return sum(v not in producers or producers[v].name not in ("expand", "constant") for v in op.inputs) <= 1


def _contracted(split: _Splitting, op: Op, position: int) -> list[Value] | None:
    """The contractions over the pieces of operand ``position``, before they are rounded."""
    whole, sizes, maps = split.pieces.get(op.inputs[position]), dict(op.attrs["axes"]), op.attrs["maps"]
    if whole is None:
        return None
    along = maps[position][whole.dim]
    name = next((a for a, n in sizes.items() if along == axis(a, n) and a not in op.attrs["out"]), None)
    read = [[d for d, e in enumerate(m) if any(s.name == name for s in symbols(e))] for m in maps]
    if name is None or any(m[d] != along for m, dims in zip(maps, read, strict=True) for d in dims):
        return None
    if any(len(dims) > 1 for dims in read):
        return None
    operands = [
        _cut(split, v, dims[0], whole.sizes) if dims else [v] * len(whole.values)
        for v, dims in zip(op.inputs, read, strict=True)
    ]
    return [_part(split.builder, op, name, size, [o[n] for o in operands]) for n, size in enumerate(whole.sizes)]


def _part(b: GraphBuilder, op: Op, name: str, size: Size, operands: Sequence[Value]) -> Value:
    axes = [(a, size if a == name else n) for a, n in op.attrs["axes"]]
    maps = [[substitute(e, {name: axis(name, size)}) for e in m] for m in op.attrs["maps"]]
    acc = op.attrs["acc"]
    return b.contract(axes, operands, maps, op.attrs["out"], acc=acc, dtype=acc)


def _added(b: GraphBuilder, parts: Sequence[Value]) -> Value:
    total = parts[0]
    for part in parts[1:]:
        total = b.pointwise("add", total, part)
    return total


class _Splitting:
    """Copies ops to ``builder``, with pieces beside what is computed from concatenated values."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.pieces: dict[Value, Pieces] = {}
        self.steps: list[Step] = []

    def visit(self, op: Op) -> None:
        """Copy ``op``, or put in its place what gives the same from pieces."""
        made = self.made_of(op)
        if isinstance(made, Value) and self.builder.ops[-1].outputs == (made,):
            self.builder.ops[-1] = replace(self.builder.ops[-1], outputs=op.outputs)
            return
        if isinstance(made, Pieces):
            self.pieces[op.output] = made
        self.builder.ops.append(op)

    def made_of(self, op: Op) -> Made:
        """What gives the same as ``op`` from pieces, or the pieces of its result; None where it has none."""
        whole = next((self.pieces[v] for v in op.inputs if v in self.pieces), None)
        row = SOURCES.get(op.name) if whole is None else ON_PIECES.get(op.name)
        return row(self, op, whole) if row is not None else None

    def said(self, op: Op, pieces: Sequence[Value], join: str) -> None:
        """Remember what ``op`` became."""
        what = str(op.attrs.get("fn", op.name))
        after = ", ".join(f"{what}(%{v.name})" for v in pieces)
        self.steps.append(
            Step("split", f"{what}(%{op.inputs[0].name})", f"{join}({after})" if len(pieces) > 1 else after)
        )


Made = Pieces | Value | None


def _concat(split: _Splitting, op: Op, _: Pieces | None) -> Made:
    return Pieces(op.attrs["dim"], op.inputs)


def _pad(split: _Splitting, op: Op, _: Pieces | None) -> Made:
    """Padding along one dimension is a concatenation with a constant."""
    low, high, b = op.attrs["low"], op.attrs["high"], split.builder
    dims = [d for d in range(op.output.type.rank) if low[d] != 0 or high[d] != 0]
    if len(dims) != 1 or not all(at_least(n, 0) for n in (low[dims[0]], high[dims[0]])):
        return None
    (dim,), x = dims, op.inputs[0]
    number = b.constant(op.attrs["value"], x.dtype)

    def strip(size: Size) -> list[Value]:
        shape = (*x.shape[:dim], size, *x.shape[dim + 1 :])
        return [b.expand(number, shape, ())] if size != 0 else []

    return Pieces(dim, (*strip(low[dim]), x, *strip(high[dim])))


def _pointwise(split: _Splitting, op: Op, pieces: Pieces | None) -> Made:
    assert pieces is not None
    operands = [_cut(split, v, pieces.dim, pieces.sizes) for v in op.inputs]
    made = [split.builder.op(op.name, [o[n] for o in operands], op.attrs) for n in range(len(pieces.values))]
    return Pieces(pieces.dim, tuple(made))


def _cut(split: _Splitting, value: Value, dim: int, sizes: Sequence[Size]) -> Sequence[Value]:
    """``value`` in pieces of these sizes along ``dim``."""
    known = split.pieces.get(value)
    if known is not None and known.dim == dim and equal_shapes(known.sizes, sizes):
        return known.values
    found: list[Value] = []
    start: Size = 0
    for size in sizes:
        found.append(split.builder.slice(value, dim, start, size))
        start = add(start, size)
    return found


def _permute(split: _Splitting, op: Op, pieces: Pieces | None) -> Made:
    assert pieces is not None
    perm = op.attrs["perm"]
    return Pieces(perm.index(pieces.dim), tuple(split.builder.permute(v, perm) for v in pieces.values))


def _slice(split: _Splitting, op: Op, pieces: Pieces | None) -> Made:
    """A slice inside one piece is a slice of that; one along other dimensions is one of each."""
    assert pieces is not None
    dim, attrs = pieces.dim, dict(op.attrs)
    if attrs["steps"][dim] != 1:
        return None
    start, size = attrs["starts"][dim], attrs["sizes"][dim]
    end: Size = 0
    for piece in pieces.values:
        first, end = end, add(end, piece.shape[dim])
        inside = _less(start, first)
        if at_least(inside, 0) and at_least(_less(end, add(start, size)), 0):
            starts = tuple(inside if d == dim else s for d, s in enumerate(attrs["starts"]))
            split.said(op, (piece,), "")
            return split.builder.op("slice", [piece], attrs | {"starts": starts})
    return None


def _reduce(split: _Splitting, op: Op, pieces: Pieces | None) -> Made:
    """A reduction along the pieces combines those of the pieces; one along other dimensions is one of each."""
    assert pieces is not None
    row, dims, b = COMBINES[op.attrs["fn"]], op.attrs["dims"], split.builder
    if row.position:
        return None
    parts = [_reduced(b, op, v) for v in pieces.values]
    if pieces.dim not in dims:
        return Pieces(pieces.dim - sum(d < pieces.dim for d in dims), tuple(parts))
    split.said(op, pieces.values, row.scalar)
    total = parts[0]
    for part in parts[1:]:
        total = b.pointwise(row.scalar, total, part)
    return total


def _reduced(b: GraphBuilder, op: Op, piece: Value) -> Value:
    longer = [d for d in op.attrs["dims"] if piece.shape[d] != 1]
    shape = [size for d, size in enumerate(piece.shape) if d not in op.attrs["dims"]]
    return b.reshape(b.reduce(op.attrs["fn"], piece, longer), shape)


def _less(a: Size, b: Size) -> Size:
    return add(a, mul(b, -1))


Row = Callable[[_Splitting, Op, Pieces | None], Made]
SOURCES: Mapping[str, Row] = {"concat": _concat, "pad": _pad}
ON_PIECES: Mapping[str, Row] = {
    "pointwise": _pointwise,
    "cast": _pointwise,
    "permute": _permute,
    "slice": _slice,
    "reduce": _reduce,
}
