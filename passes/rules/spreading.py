"""A value over more dimensions than it has, in another order."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Value
from rooftile.ir.expr import Size


def spread(builder: GraphBuilder, x: Value, places: Sequence[int | None], shape: Sequence[Size]) -> Value:
    """``x`` over ``shape``, with its dimensions at ``places`` there; dimensions of size 1 have no place."""
    kept = {d: place for d, place in enumerate(places) if place is not None and x.shape[d] != 1}
    order = sorted(kept, key=lambda d: kept[d])
    x = builder.reshape(x, [x.shape[d] for d in kept])
    x = builder.permute(x, [list(kept).index(d) for d in order])
    return builder.expand(x, shape, [kept[d] for d in order])
