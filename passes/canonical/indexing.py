"""Integers that are expressions of indices: gathers at such positions, comparisons that only come out one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rooftile.ir.core import Op, Value
from rooftile.ir.division import floordiv, mod
from rooftile.ir.expr import Size, Symbol, axis, of, symbols
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, equal
from rooftile.ir.substitution import substitute
from rooftile.passes.canonical.casts import holds_values
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules
from rooftile.passes.canonical.uniform import filled
from rooftile.passes.regions.view_index import VIEWED_AT

_DEPTH = 16  # how many ops deep an index computation is followed


def index_expression(value: Value, at: Sequence[Size], rw: Rewriter) -> Size | None:
    """The element of an integer ``value`` at index ``at``, as an expression over ``at``; None where it is data."""
    return _Follow(rw).expression(value, tuple(at), _DEPTH)


class _Follow:
    """One look at how an index is computed; a value that is used twice is followed once."""

    def __init__(self, rw: Rewriter) -> None:
        self._rw = rw
        self._found: dict[tuple[Value, tuple[Size, ...]], Size | None] = {}

    def expression(self, value: Value, at: tuple[Size, ...], depth: int) -> Size | None:
        """``value[at]``, seen through at most ``depth`` ops."""
        key = (value, at)
        if key not in self._found:
            op = self._rw.producer(value)
            found = self._of_op(op, at, depth) if op is not None and depth > 0 else None
            self._found[key] = found if found is not None and holds_values(value.dtype, found) else None
        return self._found[key]

    def _of_op(self, op: Op, at: tuple[Size, ...], depth: int) -> Size | None:
        if len(op.outputs) != 1 or op.output.dtype.kind != "int":
            return None
        if op.name in _LEAVES:
            return _LEAVES[op.name](op, at)
        if op.name == "cast":
            return self.expression(op.inputs[0], at, depth - 1)
        if op.name in VIEWED_AT:
            return self.expression(op.inputs[0], VIEWED_AT[op.name](op, at), depth - 1)
        if op.name == "concat":
            return self._of_pieces(op, at, depth)
        if op.name != "pointwise" or op.attrs["fn"] not in _ARITHMETIC:
            return None
        operands = [self.expression(v, at, depth - 1) for v in op.inputs]
        return None if any(operand is None for operand in operands) else _ARITHMETIC[op.attrs["fn"]](*operands)

    def _of_pieces(self, op: Op, at: tuple[Size, ...], depth: int) -> Size | None:
        """Pieces each of which goes on where the one before ends, such as ``-1`` before ``0, 1, 2``: what is found for
        one of them holds in all."""
        dim = op.attrs["dim"]
        pieces: list[_Piece] = []
        start: Size = 0
        for number, piece in enumerate(op.inputs):
            names = [f"piece{depth}_{number}_{d}" for d in range(len(at))]
            found = self.expression(piece, tuple(map(axis, names, piece.shape)), depth - 1)
            if found is None:
                return None
            pieces.append(_Piece(names, piece.shape, dim, start, found))
            start = add(start, piece.shape[dim])
        goes_on = (p for p in pieces if all(equal(p.continued(q.whole()), q.found) for q in pieces))
        return next((p.continued(at) for p in goes_on), None)


class _Piece(NamedTuple):
    """What is ``found`` in a piece of a concatenation, over the axes ``names`` of its dims; it begins at ``start``."""

    names: Sequence[str]
    shape: Sequence[Size]
    dim: int
    start: Size
    found: Size

    def whole(self) -> list[Size]:
        """Where the piece's elements are in the whole."""
        axes = map(axis, self.names, self.shape)
        return [add(a, self.start) if d == self.dim else a for d, a in enumerate(axes)]

    def continued(self, index: Sequence[Size]) -> Size:
        """What would be found at ``index`` of the whole if all of it went on like this piece."""
        own = [add(i, mul(self.start, -1)) if d == self.dim else i for d, i in enumerate(index)]
        return substitute(self.found, dict(zip(self.names, own, strict=True)))


def _positive_divisor(operation: Callable[[Size, Size], Size]) -> Callable[[Size, Size], Size | None]:
    return lambda num, den: operation(num, den) if isinstance(den, int) and den > 0 else None


_LEAVES: dict[str, Callable[[Op, Sequence[Size]], Size]] = {
    "constant": lambda op, at: op.attrs["value"],
    "size": lambda op, at: op.attrs["value"],
    "iota": lambda op, at: at[0],
}

_ARITHMETIC: dict[str, Callable[..., Size | None]] = {
    "add": add,
    "sub": lambda a, b: add(a, mul(b, -1)),
    "mul": mul,
    "neg": lambda a: mul(a, -1),
    "floordiv": _positive_divisor(floordiv),
    "mod": _positive_divisor(mod),
}


def _known_index(op: Op, rw: Rewriter) -> Make | None:
    """An index operand that is an expression of the gather's axes goes into the map."""
    maps = op.attrs["maps"]
    for number, (index, access) in enumerate(zip(op.inputs[1:], maps[1:], strict=True), start=1):
        position = index_expression(index, access, rw)
        if position is None:
            continue
        moved: dict[str, Size] = {f"idx{n}": of(Symbol(f"idx{n - 1}")) for n in range(number + 1, len(op.inputs))}
        moved[f"idx{number}"] = position
        first = tuple(substitute(entry, moved) for entry in maps[0])
        inputs = [v for n, v in enumerate(op.inputs) if n != number]
        others = tuple(m for n, m in enumerate(maps) if n not in (0, number))
        return Make("gather", inputs, {"axes": op.attrs["axes"], "maps": (first, *others)})
    return None


def _at_inverse(op: Op, rw: Rewriter) -> Make | None:
    """Rows read where a permutation put their numbers are rows that it puts there: ``x[inverse]``, ``inverse[index[t]]
    = t``, is ``x`` arranged by ``index``."""
    if len(op.inputs) != 2 or not op.attrs["axes"]:
        return None
    places = [axis(*each) for each in op.attrs["axes"]]
    put = rw.made_by(op.inputs[1], "arrange")
    if put is None or op.attrs["maps"] != ((of(Symbol("idx1")), *places[1:]), (places[0],)):
        return None
    number = index_expression(put.inputs[0], [axis("t", put.inputs[0].shape[0])], rw)
    whole = equal(put.attrs["size"], put.inputs[0].shape[0]) and equal(op.inputs[0].shape[0], put.attrs["size"])
    if number != axis("t", put.inputs[0].shape[0]) or not whole or op.inputs[0].shape[1:] != op.output.shape[1:]:
        return None
    return Make("arrange", [op.inputs[0], put.inputs[1]], {"size": put.attrs["size"]})


class _Stride(NamedTuple):
    """A map entry ``start + step * axis``; ``axis`` is None where it is a constant."""

    start: Size
    step: int
    axis: str | None


def _stride_of(entry: Size, axes: Mapping[str, Size]) -> _Stride | None:
    start = substitute(entry, dict.fromkeys(axes, 0))
    used = [s for s in symbols(entry) if s.name in axes]
    if not used:
        return _Stride(start, 1, None)
    step = add(substitute(entry, {used[0].name: 1}), mul(start, -1))
    linear = len(used) == 1 and isinstance(step, int) and equal(entry, add(start, mul(of(used[0]), step)))
    return _Stride(start, step, used[0].name) if linear and isinstance(step, int) else None


def _gather_is_view(op: Op, rw: Rewriter) -> Value | Make | None:
    """Without index operands, a gather whose dims each follow one axis is a slice, seen in another order."""
    if len(op.inputs) != 1:
        return None
    axes = dict(op.attrs["axes"])
    found = [_stride_of(entry, axes) for entry in op.attrs["maps"][0]]
    strides = [stride for stride in found if stride is not None]
    used = [stride.axis for stride in strides if stride.axis is not None]
    if len(strides) != len(found) or len(set(used)) != len(used) or not _inside(op.inputs[0], strides, axes):
        return None
    *first, (name, attrs) = _view_steps(strides, axes)
    x = op.inputs[0]
    for step, step_attrs in first:
        x = rw.emit(step, [x], step_attrs)
    return Make(name, [x], attrs)


def _view_steps(strides: Sequence[_Stride], axes: Mapping[str, Size]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The views that read ``x[strides]`` over ``axes``: cut out, without the constant dims, reordered, repeated."""
    used = [stride.axis for stride in strides if stride.axis is not None]
    order = [name for name in axes if name in used]
    sizes = tuple(axes[stride.axis] if stride.axis is not None else 1 for stride in strides)
    starts, steps = tuple(stride.start for stride in strides), tuple(stride.step for stride in strides)
    yield "slice", {"starts": starts, "sizes": sizes, "steps": steps}
    if len(used) < len(strides):
        yield "reshape", {"shape": tuple(axes[name] for name in used)}
    if order != used:
        yield "permute", {"perm": tuple(used.index(name) for name in order)}
    if len(order) < len(axes):
        yield "expand", {"shape": tuple(axes.values()), "dims": tuple(list(axes).index(name) for name in order)}


def _inside(x: Value, strides: Sequence[_Stride], axes: Mapping[str, Size]) -> bool:
    """Whether no position is known to lie outside ``x``: such a gather stays, to fail where eager's does."""
    for size, (start, step, name) in zip(x.shape, strides, strict=True):
        last = add(start, mul(step, add(axes[name], -1))) if name is not None else start
        for position in (start, last):
            if at_least(mul(position, -1), 1) or at_least(add(position, mul(size, -1)), 0):
                return False
    return True


def _everywhere(value: Value, rw: Rewriter) -> Size | None:
    """Every element of ``value``, as an expression of its index."""
    return index_expression(value, [axis(f"d{d}", size) for d, size in enumerate(value.shape)], rw)


def _same_number(op: Op, rw: Rewriter) -> Make | None:
    """Integers that come out the same at every index, such as the differences of neighbouring positions."""
    operands = [_everywhere(v, rw) for v in op.inputs]
    number = None if any(o is None for o in operands) else _ARITHMETIC[op.attrs["fn"]](*operands)
    if not isinstance(number, int) or not holds_values(op.output.dtype, number):
        return None
    return filled(number, op.output.type, rw)


def _less(a: Size, b: Size) -> bool | None:
    """Whether ``a < b`` at every index (True), at none (False), or neither is known (None)."""
    if at_least(add(b, mul(a, -1)), 1):
        return True
    return False if at_least(add(a, mul(b, -1)), 0) else None


def _not(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _same(a: Size, b: Size) -> bool | None:
    if _less(a, b) or _less(b, a):
        return False
    return True if equal(a, b) else None


_COMPARISONS: dict[str, Callable[[Size, Size], bool | None]] = {
    "lt": _less,
    "gt": lambda a, b: _less(b, a),
    "ge": lambda a, b: _not(_less(a, b)),
    "le": lambda a, b: _not(_less(b, a)),
    "eq": _same,
    "ne": lambda a, b: _not(_same(a, b)),
}


def _decided(op: Op, rw: Rewriter) -> Make | None:
    a, b = (_everywhere(v, rw) for v in op.inputs)
    answer = _COMPARISONS[op.attrs["fn"]](a, b) if a is not None and b is not None else None
    return filled(answer, op.output.type, rw) if answer is not None else None


INDEX_RULES: Rules = {
    "gather": (_known_index, _gather_is_view, _at_inverse),
    **dict.fromkeys((f"pointwise.{fn}" for fn in _ARITHMETIC), (_same_number,)),
    **dict.fromkeys((f"pointwise.{fn}" for fn in _COMPARISONS), (_decided,)),
}
