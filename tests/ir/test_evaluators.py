"""The reference evaluators against torch, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from rooftile.errors import InputError, InternalError
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.builder import IDX, GraphBuilder, axis_exprs
from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.dtypes import B1, BF16, F16, F32, I64
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import axis, symbol
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.parser import parse_graph
from rooftile.ir.tile_evaluator import OutOfBounds, run_kernel, run_region
from tests.ir.kernels import COPY, EMBEDDING, LAYER, MATMUL, ONE_PROGRAM, REGION, ROW_SOFTMAX

# Graph level.


def test_a_layer() -> None:
    x, w, ids = torch.randn(2, 6, 8).bfloat16(), torch.randn(8, 8).bfloat16(), torch.tensor([3, 0, 3])
    half, rows, values, places = evaluate(parse_graph(LAYER), [x, w, ids])
    wide = x.float()
    scaled = (wide / wide.square().sum(2, keepdim=True)).bfloat16()
    expected = (scaled.float() @ w.float().T).bfloat16()[:, 3:]
    torch.testing.assert_close(half, expected)
    assert torch.equal(rows, w[ids])
    assert torch.equal(values, half.topk(2, -1).values)
    assert places.dtype == torch.int64


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
def test_promoted_evaluation_is_float64_throughout(dtype: object) -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(BF16, (3, 4)))
    w = b.input("w", TensorType(BF16, (5, 4)))
    y = b.einsum("ik,nk->in", x, w)
    y = b.cast(b.pointwise("mul", y, b.constant(0.1, BF16)), F16)
    y = b.reduce("sum", b.cast(y, F32), [1])
    graph = b.finish([b.cast(y, BF16), b.cast(b.pointwise("gt", y, b.constant(0.0)), I64)])
    inputs = [torch.randn(3, 4).bfloat16(), torch.randn(5, 4).bfloat16()]
    total, positive = evaluate(graph, inputs, promote=True)
    expected = (inputs[0].double() @ inputs[1].double().T * 0.1).sum(1)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(positive, (expected > 0).long())


def test_strided_convolution_with_padding_matches_torch() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (2, 3, 9)))
    w = b.input("w", TensorType(F32, (4, 3, 3)))
    padded = b.op("pad", [x], {"low": (0, 0, 1), "high": (0, 0, 1), "value": 0.0})
    axes = (("n", 2), ("o", 4), ("i", 5), ("c", 3), ("k", 3))
    at = axis_exprs(axes)
    maps = [(at["n"], at["c"], at["i"] * 2 + at["k"]), (at["o"], at["c"], at["k"])]
    y = b.contract(axes, [padded, w], maps, ("n", "o", "i"))
    inputs = [torch.randn(2, 3, 9), torch.randn(4, 3, 3)]
    (got,) = evaluate(b.finish([y]), inputs)
    torch.testing.assert_close(got, F.conv1d(*inputs, stride=2, padding=1))


def test_contraction_over_axes_that_no_operand_has() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (3,)))
    i = axis_exprs((("i", 3),))["i"]
    y = b.contract((("i", 3), ("r", 5), ("o", 2)), [x], [(i,)], ("o", "i"))
    (got,) = evaluate(b.finish([y]), [torch.arange(3.0)])
    assert got.tolist() == [[0, 5, 10], [0, 5, 10]]


def test_gather_by_two_indices() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (4, 5)))
    rows, columns = (b.input(n, TensorType(I64, (3,))) for n in ("rows", "columns"))
    i = axis_exprs((("i", 3),))["i"]
    y = b.gather(x, [rows, columns], (("i", 3),), [(IDX[1], IDX[2]), (i,), (i,)])
    inputs = [torch.randn(4, 5), torch.tensor([0, 3, 1]), torch.tensor([4, 0, 2])]
    (got,) = evaluate(b.finish([y]), inputs)
    assert torch.equal(got, inputs[0][inputs[1], inputs[2]])


@pytest.mark.parametrize("lowered", [False, True])
def test_regions_run_by_body_and_by_kernel(lowered: bool) -> None:
    x = torch.randn(7, 5)
    (got,) = evaluate(parse_graph(REGION), [x], lowered=lowered)
    assert torch.equal(got, x + x)


def test_a_region_computes_where_its_inputs_are() -> None:
    (op,) = parse_graph(REGION).ops
    x = torch.randn(7, 5)
    with torch.device("meta"):  # whatever is torch's default
        (y,) = run_region(op, [x], {"s": 7})
    assert torch.equal(y, x + x)


def test_a_result_of_another_type_is_an_internal_error() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (2, 3)))
    b.reduce("sum", x, [0])
    (op,) = b.ops
    wrong = replace(op, outputs=(Value("y", TensorType(F32, (2,))),))
    with pytest.raises(InternalError, match=r"gave torch.float32 \(3,\) for %y"):
        evaluate(Graph("g", (x,), (wrong,), wrong.outputs), [torch.ones(2, 3)])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([torch.ones(4, 3)], "1 tensors for the 2 inputs"),
        ([torch.ones(4, 3), torch.ones(4)], "'y' has rank 1, which must be 2"),
        ([torch.ones(4, 3), torch.ones(5, 3)], "'y' has size 5 in dimension 0, which must be s"),
        ([torch.ones(4, 2), torch.ones(4, 3)], "'x' has size 2 in dimension 1, which must be 3"),
        ([torch.ones(5, 3), torch.ones(5, 3)], "must be s with 2 <= s <= 8, a multiple of 2"),
        ([torch.ones(10, 3), torch.ones(10, 3)], "must be s with 2 <= s <= 8"),
        ([torch.ones(4, 3), torch.ones(4, 3).double()], "'y' is torch.float64, which must be torch.float32"),
    ],
)
def test_inputs_that_do_not_fit(tensors: list[torch.Tensor], message: str) -> None:
    b = GraphBuilder()
    s = symbol("s", lo=2, hi=8, divisor=2)
    x, y = (b.input(name, TensorType(F32, (s, 3))) for name in "xy")
    with pytest.raises(InputError, match=message):
        evaluate(b.finish([b.pointwise("add", x, y)]), tensors)


@given(st.integers(1, 50), st.integers(1, 4), st.integers(-3, 3))
def test_sizes_are_solved_from_affine_dimensions(size: int, factor: int, offset: int) -> None:
    s = symbol("s", lo=1)
    values = [Value("x", TensorType(F32, (factor * s + offset, s * s)))]
    assert bind_sizes(values, [(factor * size + offset, size * size)]) == {"s": size}


# Tile level.


def test_copy_with_a_ragged_end() -> None:
    x, y = torch.randn(19), torch.full((19,), torch.nan)
    run_kernel(parse_graph(COPY), [x, y])
    assert torch.equal(x, y)


def test_three_sweeps_make_a_softmax() -> None:
    x, y = torch.randn(7, 50), torch.full((7, 50), torch.nan)
    run_kernel(parse_graph(ROW_SOFTMAX), [x, y])
    torch.testing.assert_close(y, x.softmax(1))


def test_dot_with_state_and_epilogue() -> None:
    a, b, bias = torch.randn(21, 70).bfloat16(), torch.randn(24, 70).bfloat16(), torch.randn(24)
    y = torch.full((21, 24), torch.nan)
    run_kernel(parse_graph(MATMUL), [a, b, bias, y])
    torch.testing.assert_close(y, a.float() @ b.float().T + bias)


def test_indirect_reads_and_positions() -> None:
    table, ids, y = torch.randn(10, 6), torch.tensor([9, 0, 4, 5, 3]), torch.full((5, 6), torch.nan)
    run_kernel(parse_graph(EMBEDDING), [table, ids, y])
    expected = torch.where((ids < 5)[:, None], table[ids], 2.0 * torch.arange(6) + 1)
    assert torch.equal(y, expected)


def test_one_program_without_axes() -> None:
    y = torch.zeros(1)
    run_kernel(parse_graph(ONE_PROGRAM), [torch.tensor(3.0), y])
    assert y.item() == 3.0


def test_strided_buffers() -> None:
    x, y = torch.randn(38)[::2], torch.full((57,), torch.nan)[::3]
    run_kernel(parse_graph(COPY), [x, y])
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("guarded", "unguarded", "message"),
    [
        ("load(%x[t], guard=[t < s])", "load(%x[t])", "load at 19 of 19 in dimension 0: a guard is missing"),
        ("store(%y[t], %load, guard=[t < s])", "store(%y[t], %load)", "store at 19 of 19"),
        ("load(%x[t], guard=[t < s])", "load(%x[t - 1], guard=[t < s])", "load at -1 of 19"),
    ],
)
def test_a_missing_guard_raises(guarded: str, unguarded: str, message: str) -> None:
    with pytest.raises(OutOfBounds, match=message):
        run_kernel(parse_graph(COPY.replace(guarded, unguarded)), [torch.ones(19), torch.ones(19)])


def test_masked_lanes_are_poisoned_where_no_fill_is_given() -> None:
    text = COPY.replace("store(%y[t], %load, guard=[t < s])", "store(%y[t], %sum, guard=[t < s])").replace(
        "store", "%total = reduce.sum(%load, axis=t) : f32[]\n%sum = pointwise.add(%load, %total) : f32[t=8]\nstore"
    )
    x, y = torch.ones(11), torch.zeros(11)
    run_kernel(parse_graph(text), [x, y])
    assert torch.equal(y[:8], torch.full((8,), 9.0))
    assert y[8:].isnan().all()


@pytest.mark.parametrize("fn", ["floordiv", "mod", "truncdiv", "fmod"])
def test_masked_lanes_may_divide_by_zero(fn: str) -> None:
    text = f"""
symbols s: 1..
kernel k(%x: i64[s], %y: i64[s]) {{
    axis t = s : grid(8)
    with grid=[t], group=none, num_warps=4, num_stages=2, outputs=1
    %load = load(%x[t], guard=[t < s], fill=0) : i64[t=8]
    %q = pointwise.{fn}(%load, %load) : i64[t=8]
    store(%y[t], %q, guard=[t < s])
}}"""
    x, y = torch.arange(1, 6), torch.zeros(5, dtype=torch.int64)
    run_kernel(parse_graph(text), [x, y])
    assert y.tolist() == [1 if "div" in fn else 0] * 5


def test_extern_results_do_not_alias_operands() -> None:
    x = Value("x", TensorType(F32, (2, 2)))
    y = Value("y", TensorType(F32, (2, 2)))
    attrs = {"target": "aten.t.default", "args": (("operand", 0),), "kwargs": (), "types": ((F32, (2, 2)),)}
    op = Op("extern", (x,), (y,), freeze_attrs(attrs))
    tensor = torch.randn(2, 2)
    (got,) = evaluate(Graph("g", (x,), (op,), (y,)), [tensor])
    assert torch.equal(got, tensor.T)
    assert got.data_ptr() != tensor.data_ptr()


def test_boolean_and_integer_ops_keep_their_dtype_when_promoted() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType(I64, (3,)))
    flag = b.pointwise("gt", x, b.constant(1, I64))
    graph = b.finish([b.pointwise("not", flag), b.reduce("any", flag, [0]), b.reduce("argmax", x, [0])])
    got = evaluate(graph, [torch.tensor([1, 3, 2])], promote=True)
    assert [g.dtype for g in got] == [B1.torch, B1.torch, I64.torch]
    assert got[2] == 1


def test_a_product_with_a_large_gathered_operand_is_evaluated_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder("rows")
    x, w = b.input("x", TensorType(F32, (9, 4))), b.input("w", TensorType(F32, (3, 4, 5)))
    which = b.input("which", TensorType(I64, (9,)))
    axes = (("t", 9), ("k", 4), ("n", 5))
    t, k, n = (axis(*each) for each in axes)
    weights = b.gather(w, [which], axes, [[IDX[1], k, n], [t]])
    graph = b.finish([b.contract(axes, [x, weights], [[t, k], [t, k, n]], ["t", "n"])])
    inputs = [torch.randn(9, 4), torch.randn(3, 4, 5), torch.tensor([2, 0, 0, 2, 2, 0, 2, 0, 0])]
    (whole,) = evaluate(graph, inputs)
    monkeypatch.setattr("rooftile.ir.gathered.LARGE", 1)
    monkeypatch.setattr("rooftile.ir.evaluator.GRAPH_OPS", {n: row for n, row in GRAPH_OPS.items() if n != "gather"})
    (by_index,) = evaluate(graph, inputs)
    torch.testing.assert_close(by_index, whole)
    torch.testing.assert_close(whole, torch.einsum("tk,tkn->tn", inputs[0], inputs[1][inputs[2]]))


def test_both_operands_of_a_product_may_be_gathered_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in the order of experts, and a matrix of each row's expert: neither is gathered whole."""
    b = GraphBuilder("rows")
    x, w = b.input("x", TensorType(F32, (5, 4))), b.input("w", TensorType(F32, (3, 4, 6)))
    order, which = b.input("order", TensorType(I64, (9,))), b.input("which", TensorType(I64, (9,)))
    axes = (("t", 9), ("k", 4), ("n", 6))
    t, k, n = (axis(*each) for each in axes)
    rows = b.gather(x, [order], axes[:2], [[IDX[1], k], [t]])
    weights = b.gather(w, [which], axes, [[IDX[1], k, n], [t]])
    graph = b.finish([b.contract(axes, [rows, weights], [[t, k], [t, k, n]], ["t", "n"])])
    numbers = torch.tensor([4, 0, 2, 2, 1, 3, 0, 4, 1]), torch.tensor([2, 0, 0, 2, 2, 0, 2, 0, 0])
    inputs = [torch.randn(5, 4), torch.randn(3, 4, 6), *numbers]
    (whole,) = evaluate(graph, inputs)
    monkeypatch.setattr("rooftile.ir.gathered.LARGE", 1)
    monkeypatch.setattr("rooftile.ir.evaluator.GRAPH_OPS", {n: row for n, row in GRAPH_OPS.items() if n != "gather"})
    (by_index,) = evaluate(graph, inputs)
    torch.testing.assert_close(by_index, whole)
    torch.testing.assert_close(whole, torch.einsum("tk,tkn->tn", inputs[0][numbers[0]], inputs[1][numbers[1]]))
