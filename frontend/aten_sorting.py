"""Rows: the order of few elements. The rank of each is how many come before it, which is a sum; an order puts each
element's number at its rank. That takes as many comparisons as there are pairs, so many elements are left to ATen."""

from __future__ import annotations

import torch

from rooftile.frontend.importing import Import
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size

aten = torch.ops.aten

MOST_CHOSEN_FROM = 256  # elements of a row of which the largest are wanted
MOST_SORTED = 1024  # integers that are sorted


def _rank(im: Import, x: Value, count: int, descending: bool) -> Value:
    """How many of the last dimension's elements come before each: the larger (smaller) ones, and among equals the
    earlier ones. A NaN is larger than any number."""
    shape = (*x.shape, count)
    mine = im.b.broadcast(im.b.reshape(x, (*x.shape, 1)), shape)
    other = im.b.broadcast(im.b.reshape(x, (*x.shape[:-1], 1, count)), shape)
    ahead, equal = im.b.pointwise("gt" if descending else "lt", other, mine), im.b.pointwise("eq", other, mine)
    if x.dtype.is_float:
        odd, even = im.b.pointwise("isnan", other), im.b.pointwise("isnan", mine)
        first, second = (odd, even) if descending else (even, odd)
        ahead = im.b.pointwise("or", ahead, im.b.pointwise("and", first, im.b.pointwise("not", second)))
        equal = im.b.pointwise("or", equal, im.b.pointwise("and", odd, even))
    rank = x.type.rank
    earlier = im.b.pointwise("lt", *(_numbers(im, shape, d) for d in (rank, rank - 1)))
    before = im.b.pointwise("or", ahead, im.b.pointwise("and", equal, earlier))
    return im.b.reduce("sum", im.b.cast(before, I32), (rank,))


def _numbers(im: Import, shape: tuple[Size, ...], dim: int) -> Value:
    """Each element's index along ``dim``."""
    small = tuple(size if d == dim else 1 for d, size in enumerate(shape))
    return im.b.broadcast(im.b.reshape(im.arange(shape[dim], I32), small), shape)


@row(aten.topk.default)
def topk(
    im: Import, x: Value, k: Size, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, Value]:
    """The element of each rank below ``k`` is a sum of one: that over all, where the rank is that. Its place is the
    largest of one, so that it is known to be less than the row is long."""
    decline_if(x.type.rank == 0 or dim % x.type.rank != x.type.rank - 1, "elements that are not a row")
    count = x.shape[-1]
    decline_if(not isinstance(count, int) or not isinstance(k, int) or count > MOST_CHOSEN_FROM, "a long row")
    assert isinstance(count, int) and isinstance(k, int)
    shape, last = (*x.shape[:-1], k, count), x.type.rank
    rank = im.b.reshape(_rank(im, x, count, largest), (*x.shape[:-1], 1, count))
    found = im.b.pointwise("eq", im.b.broadcast(rank, shape), _numbers(im, shape, last - 1))
    values = im.b.broadcast(im.b.reshape(x, (*x.shape[:-1], 1, count)), shape)
    nothing = im.full(0, x.dtype, shape)
    chosen = im.b.reduce("sum", im.b.pointwise("where", found, values, nothing), (last,))
    places = im.b.pointwise("where", found, _numbers(im, shape, last), im.full(0, I32, shape))
    return chosen, im.b.cast(im.b.reduce("max", places, (last,)), I64)


def _sorted(im: Import, x: Value, descending: bool) -> tuple[Value, Value]:
    decline_if(x.type.rank != 1 or x.dtype.kind != "int", "anything but a row of integers")
    (count,) = x.shape
    decline_if(not isinstance(count, int) or not 0 < count <= MOST_SORTED, "many elements")
    assert isinstance(count, int)
    rank = _rank(im, x, count, descending)
    return im.b.arrange(x, rank, count), im.b.arrange(im.arange(count, I64), rank, count)


@row(aten.sort.default)
def sort(im: Import, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, Value]:
    return _sorted(im, x, descending)


@row(aten.sort.stable)
def stable_sort(
    im: Import, x: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    return _sorted(im, x, descending)


@row(aten.argsort.default)
def argsort(im: Import, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return _sorted(im, x, descending)[1]


@row(aten.argsort.stable)
def stable_argsort(im: Import, x: Value, *, stable: bool, dim: int = -1, descending: bool = False) -> Value:
    return _sorted(im, x, descending)[1]
