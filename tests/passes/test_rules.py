"""The rules, one reduction at a time: what they rewrite, what they say of it, what they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rooftile.ir.builder import IDX, GraphBuilder, axis_exprs
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import BF16, F16, F32, I64, DType
from rooftile.ir.evaluator import evaluate
from rooftile.ir.verifier import verify
from rooftile.passes.derive import Derivation, derive
from rooftile.passes.regions.forms import Reason
from rooftile.passes.rules import gathers, linear, pieces, positions
from tests.answers import assert_same_answer

ROWS, INNER, COLUMNS = 5, 12, 7
Made = Callable[[GraphBuilder, Value, Value, Value], Value]


def product(make: Made, dtype: DType = F32) -> Graph:
    """``make(x, r, w)`` with ``x[ROWS, INNER]``, a number ``r`` for each row, and ``w[COLUMNS, INNER]``."""
    b = GraphBuilder()
    x = b.input("x", TensorType(dtype, (ROWS, INNER)))
    r = b.input("r", TensorType(dtype, (ROWS, 1)))
    w = b.input("w", TensorType(dtype, (COLUMNS, INNER)))
    return b.finish([make(b, x, r, w)])


def scaled(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    return b.einsum("mk,nk->mn", b.pointwise("mul", x, r), w)


def divided(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    return b.einsum("mk,nk->mn", b.pointwise("div", x, r), w)


def centered(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    return b.einsum("mk,nk->mn", b.pointwise("sub", x, r), w)


def summed(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    return b.reduce("sum", b.pointwise("mul", b.pointwise("add", x, r), r), [1])


def chosen(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    positive = b.pointwise("gt", x, b.constant(3.0, F32))
    return b.einsum("mk,nk->mn", b.pointwise("where", positive, b.pointwise("div", x, r), b.constant(0.0, F32)), w)


def transposed(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    return b.einsum("km,nk->mn", b.permute(b.pointwise("mul", x, r), [1, 0]), w)


def in_pieces(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
    pieces = b.reshape(b.pointwise("div", x, r), [ROWS, 3, INNER // 3])
    return b.reduce("sum", b.slice(pieces, 1, 0, 2), [1, 2])


def last_reduction(graph: Graph) -> Op:
    return [op for op in graph.ops if op.name in ("contract", "reduce")][-1]


def inputs_of(graph: Graph) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn([int(str(n)) for n in v.shape]).add(3).to(v.dtype.torch) for v in graph.inputs]


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (scaled, ["commute"]),
        (divided, ["commute"]),
        (centered, ["split", "commute"]),
        (summed, ["split", "commute", "commute", "commute"]),
        (chosen, ["commute"]),
        (transposed, ["commute"]),
        (in_pieces, ["commute"]),
    ],
)
def test_linear_rules_keep_the_answer(make: Made, rules: list[str]) -> None:
    before = product(make)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    after, steps = applied
    verify(after)
    assert [step.rule for step in steps] == rules
    assert_same_answer(before, after, inputs_of(before), slack=1e-6)


def test_the_factor_is_applied_to_the_result() -> None:
    before = product(scaled)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    after, (step,) = applied
    assert last_reduction(after).inputs[0] is before.inputs[0]
    assert after.ops[-1].attrs["fn"] == "mul" and after.outputs == before.outputs
    assert (step.before, step.after) == ("contract(%x * %r)", "contract(%x) * %r")


def test_a_factor_that_no_element_takes_does_not_count() -> None:
    before = product(chosen)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    after, (step,) = applied
    assert step.after == "contract(where(%gt, %x, %expand_2)) / %r"
    x, r, w = inputs_of(before)
    x[0], x[1] = -1.0, -1.0
    r[0], r[1], r[2] = 0.0, torch.nan, 0.0
    (expected,), (found,) = evaluate(before, [x, r, w]), evaluate(after, [x, r, w])
    assert expected[:2].eq(0).all() and expected[2].isinf().any()
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_sum_without_its_factor_may_be_larger_than_its_dtype() -> None:
    before = product(divided, F16)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    x, r, w = (torch.full_like(t, 100.0) for t in inputs_of(before))
    (found,) = evaluate(applied[0], [x, r, w])
    assert found.dtype is torch.float16 and found.eq(INNER * 100.0).all()


def test_a_sum_in_which_only_a_number_stays_is_not_split() -> None:
    def shifted(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
        return b.einsum("mk,nk->mn", b.pointwise("div", b.pointwise("add", x, b.constant(1e-6, F32)), r), w)

    before = product(shifted)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    assert [step.after for step in applied[1]] == ["contract(%add) / %r"]


def test_a_rounding_that_is_left_out_is_written_down() -> None:
    def rounded(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
        wide = b.pointwise("mul", b.cast(x, F32), b.cast(r, F32))
        return b.einsum("mk,nk->mn", b.cast(wide, BF16), w)

    before = product(rounded, BF16)
    applied = linear.apply(before, last_reduction(before))
    assert applied is not None
    assert "an approximation" in applied[1][-1].after


def test_what_varies_along_the_sum_stays() -> None:
    before = product(lambda b, x, r, w: b.einsum("mk,nk->mn", b.pointwise("mul", x, x), w))
    assert linear.apply(before, last_reduction(before)) is None
    before = product(lambda b, x, r, w: b.reduce("max", b.pointwise("mul", x, r), [1]))
    assert linear.apply(before, last_reduction(before)) is None


def joined(b: GraphBuilder, x: Value, r: Value) -> Value:
    return b.concat([r, x, r], 1)


def padded(b: GraphBuilder, x: Value, r: Value) -> Value:
    return b.op("pad", [x], {"low": (0, 2), "high": (0, 1), "value": 0.5})


@pytest.mark.parametrize("join", [joined, padded])
def test_what_is_joined_is_reduced_in_pieces(join: Callable[[GraphBuilder, Value, Value], Value]) -> None:
    b = GraphBuilder()
    x, r = b.input("x", TensorType(F32, (ROWS, INNER))), b.input("r", TensorType(F32, (ROWS, 1)))
    whole = b.permute(join(b, x, r), [1, 0])
    e = b.pointwise("exp", b.pointwise("sub", whole, b.reduce("max", whole, [0], keepdim=True)))
    p = b.pointwise("div", e, b.reduce("sum", e, [0], keepdim=True))
    before = b.finish([b.slice(p, 0, 2, INNER - 2), b.reduce("sum", p, [1])])
    applied = pieces.apply(before)
    assert applied is not None
    after, steps = applied
    verify(after)
    assert [s.after.split("(")[0] for s in steps] == ["maximum", "add", "slice"]
    assert_same_answer(before, after, inputs_of(before), slack=1e-6)


def test_what_no_reduction_runs_over_stays_joined() -> None:
    b = GraphBuilder()
    x, r = b.input("x", TensorType(F32, (ROWS, INNER))), b.input("r", TensorType(F32, (ROWS, 1)))
    across = b.reduce("argmax", b.concat([x, r], 1), [1])
    assert pieces.apply(b.finish([b.pointwise("neg", b.concat([x, r], 1)), across])) is None


@pytest.mark.parametrize("fn", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", [F32, I64], ids=lambda dtype: dtype.name)
def test_positions_are_those_of_the_first_extreme(fn: str, dtype: DType) -> None:
    b = GraphBuilder()
    before = b.finish([b.reduce(fn, b.input("x", TensorType(dtype, (4, 6))), [1])])
    applied = positions.apply(before, last_reduction(before))
    assert applied is not None
    after, (step,) = applied
    verify(after)
    assert step.rule == "position"
    x = torch.tensor([[3.0, 7, 7, 1, 1, 2], [5] * 6, [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]).to(dtype.torch)
    cases = [x]
    if dtype.is_float:
        cases += [x.clone().index_fill_(1, torch.tensor([2, 4]), float("nan")), torch.full((4, 6), float("-inf"))]
    for case in cases:
        (expected,), (found,) = evaluate(before, [case]), evaluate(after, [case])
        assert torch.equal(found, expected)


def test_derive_rewrites_only_what_is_in_the_way() -> None:
    alone = derive(product(scaled))
    assert isinstance(alone, Derivation) and alone.steps == ()

    def normalized(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
        scale = b.pointwise("rsqrt", b.reduce("sum", b.pointwise("mul", x, x), [1], keepdim=True))
        return b.einsum("mk,nk->mn", b.pointwise("mul", x, scale), w)

    body = product(normalized)
    derived = derive(body)
    assert isinstance(derived, Derivation) and [s.rule for s in derived.steps] == ["commute"]
    assert_same_answer(body, derived.body, inputs_of(body), slack=1e-6)


def normed(rows: int, dtype: DType, gain: bool = True) -> Graph:
    """Rows with their mean taken away, divided by their deviation, and multiplied by ``g``; then a product."""
    b = GraphBuilder()
    x, g = b.input("x", TensorType(dtype, (rows, 256))), b.input("g", TensorType(dtype, (256,)))
    w = b.input("w", TensorType(dtype, (512, 256)))
    wide = b.cast(x, F32)
    mean = b.pointwise("mul", b.reduce("sum", wide, [1], keepdim=True), b.constant(1 / 256, F32))
    far = b.pointwise("sub", wide, mean)
    power = b.reduce("sum", b.pointwise("mul", far, far), [1], keepdim=True)
    power = b.pointwise("mul", power, b.constant(1 / 256, F32))
    y = b.pointwise("mul", far, b.pointwise("rsqrt", power))
    y = b.pointwise("mul", y, b.cast(g, F32)) if gain else y
    return b.finish([b.einsum("mk,nk->mn", b.cast(y, dtype), w)])


@pytest.mark.parametrize("mean", [0.0, 200.0])
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_norm_with_a_mean_leaves_a_product_without_cancelling(
    rows: int, dtype: DType, gain: bool, mean: float
) -> None:
    """The product with the gain is rounded once, on the other operand, for the rows and for their mean."""
    body = normed(rows, dtype, gain)
    derived = derive(body)
    assert isinstance(derived, Derivation)
    assert any("rounded alike in all terms" in step.after for step in derived.steps) == gain
    torch.manual_seed(0)
    x, g, w = torch.randn(rows, 256) + mean, torch.randn(256) + 0.5, torch.randn(512, 256)
    assert_same_answer(body, derived.body, [t.to(dtype.torch) for t in (x, g, w)])


def test_what_would_be_rounded_for_the_first_time_is_not_split() -> None:
    """Rows that are stored in fp32: in bf16 their mean would be the larger part of what is left of them."""
    b = GraphBuilder()
    x, r = b.input("x", TensorType(F32, (ROWS, INNER))), b.input("r", TensorType(F32, (ROWS, 1)))
    w = b.input("w", TensorType(BF16, (COLUMNS, INNER)))
    product_of = b.einsum("mk,nk->mn", b.cast(b.pointwise("sub", x, r), BF16), w)
    body = b.finish([product_of])
    (op,) = (op for op in body.ops if op.name == "contract")
    assert linear.apply(body, op) is None


def test_derive_names_what_blocks() -> None:
    def two_layers(b: GraphBuilder, x: Value, r: Value, w: Value) -> Value:
        wide, u = (b.input(name, TensorType(F32, (rows, 1024))) for name, rows in (("wide", ROWS), ("u", 1024)))
        hidden = b.einsum("mk,nk->mn", wide, u)
        return b.einsum("mk,nk->mn", hidden, b.input("v", TensorType(F32, (columns, 1024))))

    columns = COLUMNS
    assert isinstance(derive(product(two_layers)), Derivation)
    columns = 1024
    outcome = derive(product(two_layers))
    assert isinstance(outcome, Reason)
    assert outcome.rule == "roles" and "1024" in outcome.text


@pytest.mark.parametrize("through", ["as it is", "log softmax"])
def test_an_element_at_an_index_is_a_sum(through: str) -> None:
    b = GraphBuilder()
    x, w = b.input("x", TensorType(F32, (ROWS, INNER))), b.input("w", TensorType(F32, (COLUMNS, INNER)))
    t = b.input("t", TensorType(I64, (ROWS, 1)))
    y = product_of = b.einsum("mk,nk->mn", x, w)
    if through == "log softmax":
        y = b.pointwise("sub", y, b.reduce("max", y, [1], keepdim=True))
        y = b.pointwise("sub", y, b.pointwise("log", b.reduce("sum", b.pointwise("exp", y), [1], keepdim=True)))
    axes = (("n", ROWS), ("e", 1))
    at = axis_exprs(axes)
    before = b.finish([b.gather(y, [t], axes, [(at["n"], IDX[1]), (at["n"], 0)])])
    applied = gathers.apply(before, product_of)
    assert applied is not None
    after, (step,) = applied
    verify(after)
    assert step.rule == "split"
    indices = torch.tensor([[0], [COLUMNS - 1], [3], [3], [1]])
    inputs = [*inputs_of(before)[:2], indices]
    (expected,), (found,) = evaluate(before, inputs), evaluate(after, inputs)
    torch.testing.assert_close(found, expected)
    with pytest.raises(IndexError):
        evaluate(after, [*inputs[:2], indices.index_fill(0, torch.tensor([2]), COLUMNS)])


def test_an_element_of_an_input_stays_a_load() -> None:
    b = GraphBuilder()
    x, t = b.input("x", TensorType(F32, (ROWS, INNER))), b.input("t", TensorType(I64, (ROWS,)))
    n = axis_exprs([("n", ROWS)])["n"]
    body = b.finish([b.gather(b.pointwise("exp", x), [t], [("n", ROWS)], [(n, IDX[1]), (n,)])])
    assert gathers.apply(body, b.einsum("mk,nk->mn", x, x)) is None
