"""Where a view reads what it shows, when it is read at an index: one row per op.

A permute reorders the index, an expand drops what it repeats along, a reshape divides and takes remainders, a slice
adds an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rooftile.ir.core import Op
from rooftile.ir.expr import Size
from rooftile.ir.graph_ops import flatten_index, unflatten_index
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import equal, equal_shapes

Index = tuple[Size, ...]


def _permute(op: Op, index: Index) -> Index:
    perm = op.attrs["perm"]
    return tuple(index[perm.index(d)] for d in range(len(perm)))


def _expand(op: Op, index: Index) -> Index:
    return tuple(0 if n == 1 else index[d] for n, d in zip(op.inputs[0].shape, op.attrs["dims"], strict=True))


def _reshape(op: Op, index: Index) -> Index:
    return reshape_index(index, op.output.shape, op.inputs[0].shape)


def _slice(op: Op, index: Index) -> Index:
    starts, steps = op.attrs["starts"], op.attrs["steps"]
    return tuple(add(first, mul(step, e)) for first, step, e in zip(starts, steps, index, strict=True))


def reshape_index(index: Sequence[Size], out: Sequence[Size], source: Sequence[Size]) -> tuple[Size, ...]:
    """The index in shape ``source`` of the element at ``index`` in shape ``out``; dimensions that both share stay as
    they are."""
    if equal_shapes(out, source):
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


VIEWED_AT: Mapping[str, Callable[[Op, Index], Index]] = {
    "permute": _permute,
    "expand": _expand,
    "reshape": _reshape,
    "slice": _slice,
}
