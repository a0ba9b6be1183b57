"""The order of few elements, as a graph. The rank of each is how many come before it, which is a sum; an order puts
each element's number at its rank. That takes as many comparisons as there are pairs."""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.expr import Size

MOST_SORTED = 1024  # integers that are sorted so


def rank(b: GraphBuilder, x: Value, count: int, *, descending: bool) -> Value:
    """How many of the last dimension's elements come before each: the larger (smaller) ones, and among equals the
    earlier ones. A NaN is larger than any number."""
    shape = (*x.shape, count)
    mine = b.broadcast(b.reshape(x, (*x.shape, 1)), shape)
    other = b.broadcast(b.reshape(x, (*x.shape[:-1], 1, count)), shape)
    ahead, equal = b.pointwise("gt" if descending else "lt", other, mine), b.pointwise("eq", other, mine)
    if x.dtype.is_float:
        odd, even = b.pointwise("isnan", other), b.pointwise("isnan", mine)
        first, second = (odd, even) if descending else (even, odd)
        ahead = b.pointwise("or", ahead, b.pointwise("and", first, b.pointwise("not", second)))
        equal = b.pointwise("or", equal, b.pointwise("and", odd, even))
    last = x.type.rank
    earlier = b.pointwise("lt", *(numbers_along(b, shape, d) for d in (last, last - 1)))
    before = b.pointwise("or", ahead, b.pointwise("and", equal, earlier))
    return b.reduce("sum", b.cast(before, I32), (last,))


def numbers_along(b: GraphBuilder, shape: tuple[Size, ...], dim: int) -> Value:
    """Each element's index along ``dim``."""
    small = tuple(size if d == dim else 1 for d, size in enumerate(shape))
    return b.broadcast(b.reshape(b.op("iota", (), {"size": shape[dim], "dtype": I32}), small), shape)


def argsort(b: GraphBuilder, x: Value, count: int, *, descending: bool = False) -> Value:
    """Where the elements of a row of integers stand, in their order."""
    return b.arrange(b.op("iota", (), {"size": count, "dtype": I64}), rank(b, x, count, descending=descending), count)
