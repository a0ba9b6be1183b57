"""Rows: ATen calls that replace elements of a tensor, where nobody wants the elements that were there before.

Then the result can have the tensor's memory: it is a ``scatter``, of which only the new elements are written. Whether
that is so is a matter of the graph around the call; the importer asks these rows where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from rooftile.frontend.aten_indexing import indexed
from rooftile.frontend.aten_views import from_front
from rooftile.frontend.importing import Import
from rooftile.frontend.rows import Overload, decline_if
from rooftile.ir.builder import IDX
from rooftile.ir.core import Value
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add, mul

aten = torch.ops.aten

Update: TypeAlias = Callable[..., Value]


def _index_copy(im: Import, x: Value, dim: int, index: Value, source: Value) -> Value:
    decline_if(x.type.rank == 0 or index.type.rank != 1, "an index_copy of scalars")
    dim %= x.type.rank
    axes, places = im.axes_of(source.shape)
    place = [IDX[1] if d == dim else p for d, p in enumerate(places)]
    return im.b.scatter(x, source, [index], axes, [place, [places[dim]]])


def _index_put(im: Import, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    decline_if(accumulate, "a sum over what goes to one place")
    written = indexed(im, x, indices)
    return im.b.scatter(x, im.b.broadcast(values, written.shape), written.tables, written.axes, written.maps)


def _slice_scatter(
    im: Import, x: Value, source: Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: int = 1
) -> Value:
    dim %= x.type.rank
    axes, places = im.axes_of(source.shape)
    first = from_front(start or 0, x.shape[dim])
    place = [add(first, mul(step, p)) if d == dim else p for d, p in enumerate(places)]
    return im.b.scatter(x, im.b.cast(source, x.dtype), [], axes, [place])


def _select_scatter(im: Import, x: Value, source: Value, dim: int, index: Size) -> Value:
    dim %= x.type.rank
    axes, places = im.axes_of(source.shape)
    at = from_front(index, x.shape[dim])
    return im.b.scatter(x, im.b.cast(source, x.dtype), [], axes, [[*places[:dim], at, *places[dim:]]])


IN_PLACE: dict[Overload, Update] = {
    aten.index_copy.default: _index_copy,
    aten.index_put.default: _index_put,
    aten.slice_scatter.default: _slice_scatter,
    aten.select_scatter.default: _select_scatter,
}
