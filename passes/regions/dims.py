"""Which dimensions of an op's operands and results are one and the same axis: one row per op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size, axis
from rooftile.ir.polynomial import mul
from rooftile.ir.ranges import equal


class Dim(NamedTuple):
    """Dimension ``number`` of a value; of an op, the axis of that number in its ``axes``."""

    owner: Value | Op
    number: int


Pair = tuple[Dim, Dim]
Pairs = Iterator[Pair]


def shared_dims(op: Op) -> Pairs:
    """The pairs of dimensions that ``op`` makes one; none where an op has no row, as an ``extern`` hasn't."""
    return _ROWS[op.name](op) if op.name in _ROWS else iter(())


def _same(x: Value, out: Value, dims: Iterable[tuple[int, int]]) -> Pairs:
    """Dim ``d`` of ``x`` is dim ``e`` of ``out`` for each ``(d, e)``, where their sizes are equal."""
    for d, e in dims:
        if equal(x.shape[d], out.shape[e]):
            yield Dim(x, d), Dim(out, e)


def _elementwise(op: Op) -> Pairs:
    for x in op.inputs:
        yield from _same(x, op.output, ((d, d) for d in range(x.type.rank)))


def _reduce(op: Op) -> Pairs:
    kept = [d for d in range(op.inputs[0].type.rank) if d not in op.attrs["dims"]]
    return _same(op.inputs[0], op.output, zip(kept, range(len(kept)), strict=True))


def _permute(op: Op) -> Pairs:
    return _same(op.inputs[0], op.output, zip(op.attrs["perm"], range(len(op.attrs["perm"])), strict=True))


def _expand(op: Op) -> Pairs:
    return _same(op.inputs[0], op.output, enumerate(op.attrs["dims"]))


def _reshape(op: Op) -> Pairs:
    x, out = op.inputs[0], op.output
    before, after = boundaries(x.shape), boundaries(out.shape)
    shared = [size for size in before if size in after]
    for start, end in pairwise(shared):
        (first, last), (out_first, out_last) = (before[start], before[end]), (after[start], after[end])
        if last - first == out_last - out_first == 1:
            yield Dim(x, longer(x.shape)[first]), Dim(out, longer(out.shape)[out_first])


def longer(shape: Sequence[Size]) -> list[int]:
    """The dimensions that are not of size 1."""
    return [d for d, size in enumerate(shape) if size != 1]


def boundaries(shape: Sequence[Size]) -> dict[Size, int]:
    """How many dims (not of size 1) it takes for their product, from the left, to be each size it passes through."""
    product: Size = 1
    found = {product: 0}
    for count, d in enumerate(longer(shape), start=1):
        product = mul(product, shape[d])
        found.setdefault(product, count)
    return found


def _mapped(op: Op) -> Pairs:
    """A map entry that is just an axis makes the operand's dim that axis."""
    numbers = {axis(name, size): number for number, (name, size) in enumerate(op.attrs["axes"])}
    for x, access in zip(op.inputs, op.attrs["maps"], strict=True):
        for d, entry in enumerate(access):
            if entry in numbers and equal(x.shape[d], op.attrs["axes"][numbers[entry]][1]):
                yield Dim(op, numbers[entry]), Dim(x, d)


def _contract(op: Op) -> Pairs:
    names = [name for name, _ in op.attrs["axes"]]
    yield from _mapped(op)
    for d, name in enumerate(op.attrs["out"]):
        yield Dim(op, names.index(name)), Dim(op.output, d)


def _gather(op: Op) -> Pairs:
    yield from _mapped(op)
    for d in range(op.output.type.rank):
        yield Dim(op, d), Dim(op.output, d)


def _scatter(op: Op) -> Pairs:
    yield from _mapped(op)
    for d in range(op.output.type.rank):
        yield Dim(op.inputs[0], d), Dim(op.output, d)


_ROWS: dict[str, Callable[[Op], Pairs]] = {
    "pointwise": _elementwise,
    "cast": _elementwise,
    "positions": _elementwise,
    "scan": _elementwise,
    "slice": _elementwise,
    "pad": _elementwise,
    "concat": _elementwise,
    "reduce": _reduce,
    "permute": _permute,
    "expand": _expand,
    "reshape": _reshape,
    "contract": _contract,
    "gather": _gather,
    "scatter": _scatter,
}
