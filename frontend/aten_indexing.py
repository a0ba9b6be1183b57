"""Rows: reading and writing at indices that are data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.builder import IDX, broadcast_shapes
from rooftile.ir.core import Value
from rooftile.ir.dtypes import B1, I64
from rooftile.ir.expr import Expr, Size
from rooftile.ir.ranges import at_least, equal

aten = torch.ops.aten

# Values of these ops are not negative if their operands are not.
_KEEP_SIGN = frozenset({"reshape", "expand", "permute", "slice", "concat", "cast", "gather"})
_KEEP_SIGN_POINTWISE = frozenset({"add", "mul", "maximum", "minimum", "floordiv", "mod", "and", "or"})


def _is_never_negative(im: Import, index: Value, depth: int = 8) -> bool:
    """Whether an index is made of positions only, so that it cannot count from the end."""
    op = im.producer(index)
    if op is None or depth == 0:
        return False
    if op.name in ("iota", "positions"):
        return True
    if op.name in ("constant", "size"):
        value = op.attrs["value"]
        return at_least(value, 0) if isinstance(value, (int, Expr)) else False
    if op.name in _KEEP_SIGN or (op.name == "pointwise" and op.attrs["fn"] in _KEEP_SIGN_POINTWISE):
        read = op.inputs[:1] if op.name == "gather" else op.inputs
        return all(_is_never_negative(im, v, depth - 1) for v in read)
    return False


def _from_front(im: Import, index: Value, size: Size) -> Value:
    """An index that may be negative, as a position."""
    if _is_never_negative(im, index):
        return index
    negative = im.b.pointwise("lt", index, im.scalar(0, index.dtype))
    return im.where(negative, im.pointwise("add", index, im.scalar(size, index.dtype)), index, index.dtype)


@row(aten.embedding.default)
def embedding(
    im: Import,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """Row ``indices[...]`` of the table; ``padding_idx`` matters to the gradient alone."""
    axes, (*places, column) = im.axes_of(im.shape)
    return im.b.gather(weight, [indices], axes, [[IDX[1], column], places])


@row(aten.gather.default)
def gather(im: Import, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    decline_if(x.type.rank == 0, "a gather from a scalar")
    axes, places = im.axes_of(im.shape)
    read = [IDX[1] if d == dim % x.type.rank else place for d, place in enumerate(places)]
    return im.b.gather(x, [index], axes, [read, places])


@row(aten.index_select.default)
def index_select(im: Import, x: Value, dim: int, index: Value) -> Value:
    decline_if(x.type.rank == 0 or index.type.rank == 0, "an index_select of scalars")
    dim %= x.type.rank
    axes, places = im.axes_of(im.shape)
    read = [IDX[1] if d == dim else place for d, place in enumerate(places)]
    return im.b.gather(x, [index], axes, [read, [places[dim]]])


@row(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(im: Import, x: Value, indices: Sequence[Value | None]) -> Value:
    read = indexed(im, x, indices)
    return im.b.gather(x, read.tables, read.axes, read.maps)


@dataclass(frozen=True)
class Indexed:
    """The elements ``x[maps[0]]`` over ``axes``, where ``IDX[n]`` stands for ``tables[n - 1]`` at ``maps[n]``."""

    tables: Sequence[Value]
    axes: Sequence[tuple[str, Size]]
    maps: Sequence[Sequence[Size]]

    @property
    def shape(self) -> tuple[Size, ...]:
        return tuple(size for _, size in self.axes)


def indexed(im: Import, x: Value, indices: Sequence[Value | None]) -> Indexed:
    """NumPy's indexing by integer tensors: they broadcast together; apart from one another they go to the front."""
    given = {d: i for d, i in enumerate(indices) if i is not None}
    decline_if(any(i.dtype is B1 for i in given.values()), "a boolean index: its size depends on the data")
    decline_if(not given or len(given) > 8, "an index without indices")
    together = broadcast_shapes([i.shape for i in given.values()])
    adjacent = max(given) - min(given) == len(given) - 1
    at = min(given) if adjacent else 0  # where the dimensions of the indices stand in the result
    others = [size for d, size in enumerate(x.shape) if d not in given]
    axes, places = im.axes_of((*others[:at], *together, *others[at:]))
    shared = places[at : at + len(together)]
    kept = iter([*places[:at], *places[at + len(together) :]])
    read: list[Size] = [IDX[list(given).index(d) + 1] if d in given else next(kept) for d in range(x.type.rank)]
    tables = [_from_front(im, i, x.shape[d]) for d, i in given.items()]
    maps = [_broadcast_map(t, shared) for t in tables]
    return Indexed(tables, axes, [read, *maps])


def _broadcast_map(index: Value, shared: Sequence[Expr]) -> list[Size]:
    """How an index of fewer or smaller dimensions is read over the shared ones."""
    own = shared[len(shared) - index.type.rank :]
    return [0 if size == 1 else place for size, place in zip(index.shape, own, strict=True)]


_EMPTY = frozenset({aten.empty_like.default, aten.empty.memory_format, aten.new_empty.default})


@row(aten.index_put.default)
def index_put(im: Import, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    """A few rows replaced, or rows written into a tensor that holds nothing yet: the inverse of a permutation, or rows
    put back into their order. What is in other rows of that is for torch to say, which says nothing."""
    given = [(d, i) for d, i in enumerate(indices) if i is not None]
    decline_if(accumulate or len(given) != 1 or given[0][1].type.rank > 1, "indices of more than rows")
    ((dim, index),) = given
    decline_if(index.dtype is B1, "a boolean index: its size depends on the data")
    base = im.node.args[0] if im.node is not None else None
    if getattr(base, "target", None) not in _EMPTY:
        return _with_few_rows(im, x, dim, index, values)
    decline_if(dim != 0 or index.type.rank != 1, "indices of more than rows")
    rows = im.b.broadcast(values, (index.shape[0], *x.shape[1:]))
    return im.b.arrange(rows, _from_front(im, index, x.shape[0]), x.shape[0])


def _with_few_rows(im: Import, x: Value, dim: int, index: Value, values: Value) -> Value:
    """``x`` with ``values`` at the positions ``index`` along ``dim``."""
    place = im.b.reshape(_from_front(im, index, x.shape[dim]), (index.shape[0] if index.type.rank else 1,))
    shape = (*x.shape[:dim], place.shape[0], *x.shape[dim + 1 :])
    given = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
    source = im.b.reshape(im.b.broadcast(values, given), shape)
    return scatter(im, x, dim, im.b.expand(place, shape, (dim,)), source)


@row(aten.one_hot.default)
def one_hot(im: Import, x: Value, num_classes: int = -1) -> Value:
    decline_if(num_classes == -1, "the number of classes depends on the data")
    column = im.b.reshape(x, (*x.shape, 1))
    return im.b.cast(im.b.pointwise("eq", column, im.arange(num_classes, x.dtype)), im.dtype)


# A scatter asks of every element which of the indices is its own: as long as there are few.
_MOST_WRITES = 64


@row(aten.scatter.value)
def scatter_value(im: Import, x: Value, dim: int, index: Value, value: Scalar) -> Value:
    return im.where(im.pointwise("ge", _last_writer(im, x, dim, index), 0), value, x, x.dtype)


@row(aten.scatter.src)
def scatter(im: Import, x: Value, dim: int, index: Value, source: Value) -> Value:
    """Where several indices are the same, the last one's value is taken; torch says that any may be."""
    writer = _last_writer(im, x, dim, index)
    axes, places = im.axes_of(x.shape)
    read = [IDX[1] if d == dim % x.type.rank else place for d, place in enumerate(places)]
    row_read = im.b.pointwise("maximum", writer, im.scalar(0, writer.dtype))
    written = im.b.gather(source, [row_read], axes, [read, places])
    return im.where(im.pointwise("ge", writer, 0), written, x, x.dtype)


def _last_writer(im: Import, x: Value, dim: int, index: Value) -> Value:
    """For each element of ``x`` the last position along ``dim`` at which ``index`` names it; -1 where none does."""
    decline_if(x.type.rank == 0 or index.type.rank == 0, "a scatter of scalars")
    dim %= x.type.rank
    count = index.shape[dim]
    decline_if(not isinstance(count, int) or not 0 < count <= _MOST_WRITES, "a scatter of many elements")
    others = [(a, b) for d, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if d != dim]
    decline_if(not all(equal(a, b) for a, b in others), "a scatter into a part of the tensor")
    split = (*index.shape[:dim], count, x.shape[dim], *index.shape[dim + 1 :])
    named = im.b.reshape(index, (*index.shape[: dim + 1], 1, *index.shape[dim + 1 :]))
    here = im.b.pointwise("eq", im.b.broadcast(named, split), im.b.cast(im.index_along(split, dim + 1), index.dtype))
    position = im.where(here, im.b.broadcast(im.index_along(split, dim), split), -1, I64)
    return im.b.reduce("max", position, (dim,))
