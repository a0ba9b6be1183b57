"""Which of a region's axes are the same axis, and which merge into one."""

from __future__ import annotations

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import F32
from rooftile.passes.regions.space import divisions, merge_freely, region_access

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


def test_an_axis_is_not_made_the_same_as_one_that_is_summed_beneath_it() -> None:
    """``sum over i of max(scan(x)[i], x[i])``: the scan sums ``x`` over another axis for each ``i``."""
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (COLUMNS,)))
    running = b.op("scan", [x], {"fn": "sum", "dim": 0})
    _, access = region_access(b.finish([b.reduce("sum", b.pointwise("maximum", running, x), [0])]))
    assert list(access.axes.values()) == [COLUMNS, COLUMNS]


def test_axes_that_one_reduction_sums_stay_apart() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (COLUMNS,)))
    square = b.pointwise("mul", b.expand(x, (COLUMNS, COLUMNS), (0,)), b.expand(x, (COLUMNS, COLUMNS), (1,)))
    _, access = region_access(b.finish([b.reduce("sum", square, [0, 1])]))
    assert list(access.axes.values()) == [COLUMNS, COLUMNS]


def test_neighbouring_axes_merge_as_often_as_addresses_allow() -> None:
    b = GraphBuilder()
    x, y = (b.input(name, TensorType(F32, (2, 3, 4, 5))) for name in "xy")
    body = b.finish([b.pointwise("add", x, y)])
    space, access = region_access(body)
    _, access, left = merge_freely(body, space, access, list(access.axes))
    assert access.axes == {left[0]: 120} and divisions(access) == 0


def test_axes_that_a_buffer_holds_apart_do_not_merge() -> None:
    b = GraphBuilder()
    x, y = b.input("x", TensorType(F32, (2, 3))), b.input("y", TensorType(F32, (3, 2)))
    body = b.finish([b.pointwise("add", x, b.permute(y, (1, 0)))])
    space, access = region_access(body)
    assert len(merge_freely(body, space, access, list(access.axes))[2]) == 2


def test_an_axis_of_the_result_splits_where_reductions_are_read_at_quotients_of_it() -> None:
    """Each head's weighted sum of values, the heads side by side in one row."""
    b = GraphBuilder()
    x, v = b.input("x", TensorType(F32, (2, ROWS, COLUMNS))), b.input("v", TensorType(F32, (2, COLUMNS, 5)))
    weights = b.pointwise("div", x, b.reduce("sum", x, [2], keepdim=True))
    _, access = region_access(b.finish([b.reshape(b.einsum("hij,hjd->ihd", weights, v), (ROWS, 10))]))
    assert sorted(access.axes.values()) == [2, ROWS, 5, COLUMNS] and divisions(access) == 0


def test_an_axis_of_several_reductions_is_not_made_the_same_as_one_beneath_any_of_them() -> None:
    """``sum_i (softmax(x) @ v)[i] * v[i] + sum_i v[i]``: both sums run over one ``i``, beneath the first one runs the
    product's own axis, which reads ``v`` too."""
    b = GraphBuilder()
    x, v = b.input("x", TensorType(F32, (COLUMNS, COLUMNS))), b.input("v", TensorType(F32, (COLUMNS,)))
    mixed = b.einsum("ij,j->i", softmax(b, x), v)
    total = b.reduce("sum", b.pointwise("mul", mixed, v), [0])
    body = b.finish([b.pointwise("div", total, b.reduce("sum", v, [0]))])
    _, access = region_access(body)
    assert list(access.axes.values()) == [COLUMNS, COLUMNS]


def test_an_axis_of_the_result_that_a_scan_varies_over_stays_apart_from_the_scanned_one() -> None:
    """``(sum of 2 x up to i + sum of x) * x[i]``: the sum may run over ``i``, and the scan over neither."""
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (COLUMNS,)))
    running = b.op("scan", [b.pointwise("add", x, x)], {"fn": "sum", "dim": 0})
    total = b.broadcast(b.reduce("sum", x, [0]), (COLUMNS,))
    _, access = region_access(b.finish([b.pointwise("mul", b.pointwise("add", running, total), x)]))
    assert list(access.axes.values()) == [COLUMNS, COLUMNS]
