"""Which of a region's reduced axes are the same axis."""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import F32
from rooftile.passes.space import region_access

ROWS, COLUMNS = 3, 7


def softmax(b: GraphBuilder, x: Value) -> Value:
    e = b.pointwise("exp", b.pointwise("sub", x, b.reduce("max", x, [1], keepdim=True)))
    return b.pointwise("div", e, b.reduce("sum", e, [1], keepdim=True))


def difference_of_softmaxes() -> Graph:
    """``(softmax(x) - softmax(y)) summed over columns``: five reductions over the columns."""
    b = GraphBuilder()
    x, y = (b.input(name, TensorType(F32, (ROWS, COLUMNS))) for name in "xy")
    return b.finish([b.reduce("sum", b.pointwise("sub", softmax(b, x), softmax(b, y)), [1])])


def test_an_axis_goes_with_the_one_that_it_was_made_the_same_as() -> None:
    _, access = region_access(difference_of_softmaxes())
    bound = {name for read in access.reductions() for name in access.nodes[read].bound}
    assert len(access.reductions()) == 5
    assert len(bound) == 1 and bound <= set(access.axes)


def test_softmax_runs_over_one_axis() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (ROWS, COLUMNS)))
    _, access = region_access(b.finish([softmax(b, x)]))
    assert sorted(access.axes.values()) == [ROWS, COLUMNS]
