"""Rows: the order of few elements, by their ranks; many are left to ATen."""

from __future__ import annotations

import torch

from rooftile.frontend.importing import Import
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size
from rooftile.ir.ranks import MOST_SORTED, numbers_along, rank

aten = torch.ops.aten

MOST_CHOSEN_FROM = 256  # elements of a row of which the largest are wanted


@row(aten.topk.default)
def topk(
    im: Import, x: Value, k: Size, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, Value]:
    """The element of each rank below ``k`` is a sum of one: that over all, where the rank is that. Its place is the
    largest of one, so that it is known to be less than the row is long."""
    decline_if(x.type.rank == 0, "a number alone")
    dim, last = dim % x.type.rank, x.type.rank
    count = x.shape[dim]
    decline_if(not isinstance(count, int) or not isinstance(k, int) or count > MOST_CHOSEN_FROM, "a long row")
    assert isinstance(count, int) and isinstance(k, int)
    there = [*(d for d in range(last) if d != dim), dim]
    back = [there.index(d) for d in range(last)]
    x = im.b.permute(x, there)
    shape = (*x.shape[:-1], k, count)
    ranks = im.b.reshape(rank(im.b, x, count, descending=largest), (*x.shape[:-1], 1, count))
    found = im.b.pointwise("eq", im.b.broadcast(ranks, shape), numbers_along(im.b, shape, last - 1))
    values = im.b.broadcast(im.b.reshape(x, (*x.shape[:-1], 1, count)), shape)
    nothing = im.full(0, x.dtype, shape)
    chosen = im.b.reduce("sum", im.b.pointwise("where", found, values, nothing), (last,))
    places = im.b.pointwise("where", found, numbers_along(im.b, shape, last), im.full(0, I32, shape))
    numbers = im.b.cast(im.b.reduce("max", places, (last,)), I64)
    return im.b.permute(chosen, back), im.b.positions(im.b.permute(numbers, back), count, dim)


def _sorted(im: Import, x: Value, descending: bool) -> tuple[Value, Value]:
    decline_if(x.type.rank != 1 or x.dtype.kind != "int", "anything but a row of integers")
    (count,) = x.shape
    decline_if(not isinstance(count, int) or not 0 < count <= MOST_SORTED, "many elements")
    assert isinstance(count, int)
    ranks = rank(im.b, x, count, descending=descending)
    return im.b.arrange(x, ranks, count), im.b.arrange(im.arange(count, I64), ranks, count)


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
