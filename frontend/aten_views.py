"""Rows: views and rearrangements. In a functional graph a view is a value like any other; its strides do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from rooftile.errors import UnsupportedError
from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import decline_if, row
from rooftile.frontend.sizes import to_sizes, to_strides
from rooftile.ir.core import Value
from rooftile.ir.expr import Size
from rooftile.ir.graph_ops import unflatten_index
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least
from rooftile.ir.strides import is_contiguous, position

aten = torch.ops.aten


@row(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten._reshape_alias.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.view_as.default,
    aten.reshape_as.default,
)
def reshape(im: Import, x: Value, *_: Any, **__: Any) -> Value:
    """Every op that only regroups elements in row-major order; torch says which shape comes out."""
    return im.b.reshape(x, im.shape)


@row(aten.view.dtype)
def view_dtype(im: Import, x: Value, dtype: torch.dtype) -> Value:
    decline_if(im.dtype is not x.dtype, "the bits in another dtype")
    return x


@row(aten.expand.default, aten.broadcast_to.default)
def expand(im: Import, x: Value, size: Sequence[Size], *, implicit: bool = False) -> Value:
    return im.b.broadcast(x, im.shape)


@row(aten.expand_as.default)
def expand_as(im: Import, x: Value, other: Value) -> Value:
    return im.b.broadcast(x, im.shape)


@row(aten.permute.default)
def permute(im: Import, x: Value, dims: Sequence[int]) -> Value:
    return im.b.permute(x, [d % x.type.rank for d in dims])


@row(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def transpose(im: Import, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(x.type.rank))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return im.b.permute(x, order)


@row(aten.t.default, aten.numpy_T.default, aten.mT.default, aten.adjoint.default)
def t(im: Import, x: Value) -> Value:
    return transpose(im, x, -2, -1) if x.type.rank > 1 else x


@row(aten.movedim.int)
def movedim(im: Import, x: Value, source: int, destination: int) -> Value:
    order = list(range(x.type.rank))
    order.insert(destination % x.type.rank, order.pop(source % x.type.rank))
    return im.b.permute(x, order)


@row(aten.slice.Tensor)
def slice_(
    im: Import, x: Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: int = 1
) -> Value:
    dim %= x.type.rank
    return im.b.slice(x, dim, from_front(start or 0, x.shape[dim]), im.shape[dim], step)


@row(aten.narrow.default)
def narrow(im: Import, x: Value, dim: int, start: Size, length: Size) -> Value:
    dim %= x.type.rank
    return im.b.slice(x, dim, from_front(start, x.shape[dim]), length)


def from_front(start: Size, size: Size) -> Size:
    """A position that may count from the end, clamped to the dimension; torch has decided how a symbolic one lies."""
    if isinstance(start, int) and start < 0:
        start = add(size, start)
        return 0 if isinstance(start, int) and start < 0 else start
    return min(start, size) if isinstance(start, int) and isinstance(size, int) else start


@row(aten.select.int)
def select(im: Import, x: Value, dim: int, index: Size) -> Value:
    dim %= x.type.rank
    return im.b.reshape(im.b.slice(x, dim, from_front(index, x.shape[dim]), 1), im.shape)


def _pieces(im: Import, x: Value, dim: int) -> list[Value]:
    """Consecutive pieces along ``dim``, as long as torch says."""
    dim %= x.type.rank
    start: Size = 0
    pieces = []
    for piece in im.expected:
        (size,) = to_sizes(piece.shape[dim : dim + 1])
        pieces.append(im.b.slice(x, dim, start, size))
        start = add(start, size)
    return pieces


@row(aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default, aten.tensor_split.sections)
def split(im: Import, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    return _pieces(im, x, dim)


@row(aten.unbind.int)
def unbind(im: Import, x: Value, dim: int = 0) -> list[Value]:
    dim %= x.type.rank
    kept = (*x.shape[:dim], *x.shape[dim + 1 :])
    return [im.b.reshape(im.b.slice(x, dim, k, 1), kept) for k in range(len(im.expected))]


@row(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(im: Import, tensors: Sequence[Value], dim: int = 0) -> Value:
    # torch lets an empty tensor of one dimension take part in any concatenation.
    full = [x for x in tensors if not (x.type.rank == 1 and x.shape[0] == 0 and len(im.shape) != 1)]
    return im.b.concat([im.b.cast(x, im.dtype) for x in full], dim % len(im.shape))


@row(aten.stack.default)
def stack(im: Import, tensors: Sequence[Value], dim: int = 0) -> Value:
    dim %= len(im.shape)
    apart = [im.b.reshape(im.b.cast(x, im.dtype), (*x.shape[:dim], 1, *x.shape[dim:])) for x in tensors]
    return im.b.concat(apart, dim)


@row(aten.flip.default)
def flip(im: Import, x: Value, dims: Sequence[int]) -> Value:
    for dim in (d % x.type.rank for d in dims):
        x = im.b.slice(x, dim, add(x.shape[dim], -1), x.shape[dim], -1)
    return x


@row(aten.roll.default)
def roll(im: Import, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    shape = x.shape
    if not dims:
        x, dims = im.b.reshape(x, (x.type.numel,)), (0,)
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        decline_if(not isinstance(size, int) or size == 0, "a roll along a symbolic dimension")
        assert isinstance(size, int)
        cut = -shift % size
        if cut:
            parts = (im.b.slice(x, dim % x.type.rank, cut, size - cut), im.b.slice(x, dim % x.type.rank, 0, cut))
            x = im.b.concat(parts, dim % x.type.rank)
    return im.b.reshape(x, shape)


@row(aten.repeat.default, aten.tile.default)
def repeat(im: Import, x: Value, repeats: Sequence[Size]) -> Value:
    """Each dimension n becomes (r, n): a broadcast and a regrouping."""
    decline_if(len(repeats) < x.type.rank, "fewer repeats than dimensions")
    shape = (*(1 for _ in range(len(repeats) - x.type.rank)), *x.shape)
    pairs = tuple(s for r, n in zip(repeats, shape, strict=True) for s in (r, n))
    first = len(repeats) - x.type.rank
    spread = im.b.expand(x, pairs, [2 * (first + d) + 1 for d in range(x.type.rank)])
    return im.b.reshape(spread, tuple(mul(r, n) for r, n in zip(repeats, shape, strict=True)))


@row(aten.repeat_interleave.self_int)
def repeat_interleave(
    im: Import, x: Value, repeats: Size, dim: int | None = None, *, output_size: Size | None = None
) -> Value:
    """The dimension n becomes (n, r)."""
    if dim is None:
        x, dim = im.b.reshape(x, (x.type.numel,)), 0
    dim %= x.type.rank
    shape = (*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :])
    spread = im.b.expand(x, shape, [d if d <= dim else d + 1 for d in range(x.type.rank)])
    return im.b.reshape(spread, im.shape)


@row(aten.constant_pad_nd.default)
def constant_pad_nd(im: Import, x: Value, pad: Sequence[Size], value: Scalar = 0) -> Value:
    return padded(im, x, pad, value)


@row(aten.pad.default)
def pad(im: Import, x: Value, pad: Sequence[Size], mode: str = "constant", value: float | None = None) -> Value:
    decline_if(mode != "constant", f"padding of mode {mode}")
    return padded(im, x, pad, 0 if value is None else value)


def padded(im: Import, x: Value, pad: Sequence[Size], value: Scalar) -> Value:
    """torch's order of paddings: last dimension first, each ``(low, high)``; a negative one cuts."""
    rank = x.type.rank
    low: list[Size] = [0] * rank
    high: list[Size] = [0] * rank
    for number in range(len(pad) // 2):
        low[rank - 1 - number], high[rank - 1 - number] = pad[2 * number], pad[2 * number + 1]
    for dim in range(rank):
        cut = [min(p, 0) if isinstance(p, int) else 0 for p in (low[dim], high[dim])]
        if any(cut):
            x = im.b.slice(x, dim, -cut[0], add(x.shape[dim], sum(cut)))
    decline_if(not all(isinstance(p, int) or at_least(p, 0) for p in (*low, *high)), "a padding of unknown sign")
    rest = [tuple(max(p, 0) if isinstance(p, int) else p for p in side) for side in (low, high)]
    if not any(p != 0 for side in rest for p in side):
        return x
    fill = {"float": float, "int": int, "bool": bool}[x.dtype.kind](value)
    return im.b.op("pad", [x], {"low": rest[0], "high": rest[1], "value": fill})


@row(aten.slice_scatter.default)
def slice_scatter(
    im: Import, x: Value, source: Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: int = 1
) -> Value:
    """``x`` with a slice replaced: the part before it, the new one, the part behind it."""
    dim %= x.type.rank
    first = from_front(start or 0, x.shape[dim])
    if step != 1:
        return _replaced_in_steps(im, x, im.b.cast(source, x.dtype), dim, first, step)
    behind = add(first, source.shape[dim])
    return _replaced(im, x, im.b.cast(source, x.dtype), dim, first, behind)


@row(aten.select_scatter.default)
def select_scatter(im: Import, x: Value, source: Value, dim: int, index: Size) -> Value:
    dim %= x.type.rank
    first = from_front(index, x.shape[dim])
    row_shape = tuple(1 if d == dim else s for d, s in enumerate(x.shape))
    return _replaced(im, x, im.b.reshape(im.b.cast(source, x.dtype), row_shape), dim, first, add(first, 1))


def _replaced(im: Import, x: Value, source: Value, dim: int, first: Size, behind: Size) -> Value:
    size = x.shape[dim]
    pieces = []
    if first != 0:
        pieces.append(im.b.slice(x, dim, 0, first))
    if source.shape[dim] != 0:
        pieces.append(source)
    rest = add(size, mul(behind, -1))
    if rest != 0:
        pieces.append(im.b.slice(x, dim, behind, rest))
    return im.b.concat(pieces, dim)


def _replaced_in_steps(im: Import, x: Value, source: Value, dim: int, first: Size, step: int) -> Value:
    """Every new element spread over a step, and taken at the first position of it."""
    size, count = x.shape[dim], source.shape[dim]
    decline_if(not all(isinstance(n, int) for n in (size, count, first)), "a slice with steps of unknown size")
    assert isinstance(size, int) and isinstance(count, int) and isinstance(first, int)
    span = count * step
    wide = (*source.shape[:dim], count, step, *source.shape[dim + 1 :])
    spread = im.b.expand(source, wide, [d if d <= dim else d + 1 for d in range(source.type.rank)])
    flat = im.b.reshape(spread, (*source.shape[:dim], span, *source.shape[dim + 1 :]))
    behind = [0, 0] * (x.type.rank - 1 - dim)
    there = padded(im, flat, [*behind, first, size - first - span], 0)
    place = im.index_along(x.shape, dim)
    taken = im.pointwise("eq", im.pointwise("mod", im.pointwise("sub", place, first), step), 0)
    inside = im.pointwise("and", im.pointwise("ge", place, first), im.pointwise("lt", place, first + span))
    return im.where(im.pointwise("and", taken, inside), there, x, x.dtype)


@row(aten.as_strided.default)
def as_strided(
    im: Import, x: Value, size: Sequence[Size], stride: Sequence[Size], storage_offset: Size | None = None
) -> Value:
    """An arbitrary view of a dense tensor: each element's position in memory, as an index into the tensor."""
    assert im.node is not None and isinstance(im.node.args[0], fx.Node)
    source = im.node.args[0].meta["val"]
    if not is_contiguous(x.shape, to_strides(source.stride())):
        raise UnsupportedError("as_strided of a tensor that is not contiguous", fix="call .contiguous() on it first")
    axes, places = im.axes_of(size)
    return im.b.gather(x, [], axes, [unflatten_index(add(storage_offset or 0, position(places, stride)), x.shape)])


@row(aten.diagonal.default)
def diagonal(im: Import, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """One index reads both dimensions."""
    rank = x.type.rank
    first, second = dim1 % rank, dim2 % rank
    kept = [d for d in range(rank) if d not in (first, second)]
    axes, names = im.axes_of(im.shape)
    index: list[Size] = [0] * rank
    for n, d in enumerate(kept):
        index[d] = names[n]
    index[first], index[second] = add(names[-1], max(-offset, 0)), add(names[-1], max(offset, 0))
    return im.b.gather(x, [], axes, [index])


@row(aten.unfold.default)
def unfold(im: Import, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows along a dimension: window w reads position ``w * step + k``; k is a new last dimension."""
    dim = dimension % x.type.rank
    axes, names = im.axes_of(im.shape)
    index: list[Size] = [names[d] for d in range(x.type.rank)]
    index[dim] = add(mul(names[dim], step), names[-1])
    return im.b.gather(x, [], axes, [index])
