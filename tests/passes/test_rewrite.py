"""The rewrite driver and the folding rules, where text files don't reach."""

from __future__ import annotations

import pytest
import torch

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import B1, BF16, DTYPES, F8E4M3, F8E5M2, F16, F32, I8, I32, I64, U8, DType
from rooftile.ir.evaluator import evaluate
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.casts import holds_exactly
from rooftile.passes.canonical.rewrite import Make, Rewriter, rewrite
from rooftile.passes.canonicalize import Canonicalize
from rooftile.target import CPU


def canonical(graph: Graph) -> Graph:
    return Canonicalize().run(graph, PassContext(CPU))


def unary(fn: str) -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", TensorType(F32, (3,)))
    return builder.finish([builder.pointwise(fn, x)])


def to_sin(op: Op, rw: Rewriter) -> Make:
    return Make("pointwise", op.inputs, {"fn": "sin"})


def to_cos(op: Op, rw: Rewriter) -> Make:
    return Make("pointwise", op.inputs, {"fn": "cos"})


def to_operand(op: Op, rw: Rewriter) -> Value:
    return op.inputs[0]


def test_no_rule_gives_the_same_graph() -> None:
    graph = unary("sin")
    assert rewrite(graph, {"pointwise.cos": (to_sin,)}) is graph


def test_a_new_op_keeps_the_result_and_its_location() -> None:
    graph = unary("cos")
    (op,) = rewrite(graph, {"pointwise.cos": (to_sin,)}).ops
    assert op.attrs["fn"] == "sin"
    assert op.output is graph.ops[0].output


def test_rules_that_undo_each_other_are_found() -> None:
    with pytest.raises(RuntimeError, match="undo each other at %sin"):
        rewrite(unary("sin"), {"pointwise.cos": (to_sin,), "pointwise.sin": (to_cos,)})


def test_a_rule_that_changes_the_type_is_found() -> None:
    builder = GraphBuilder()
    x = builder.input("x", TensorType(F32, (3,)))
    graph = builder.finish([builder.cast(x, F16)])
    with pytest.raises(TypeError, match="a rule for cast"):
        rewrite(graph, {"cast": (to_operand,)})


def test_what_torch_refuses_is_left_to_run_time() -> None:
    builder = GraphBuilder()
    quotient = builder.pointwise("floordiv", builder.constant(3, I64), builder.constant(0, I64))
    graph = builder.finish([quotient])
    assert canonical(graph) is graph


def test_negative_zero_and_zero_are_two_constants() -> None:
    builder = GraphBuilder()
    zeros = [builder.constant(number) for number in (0.0, -0.0, 0.0)]
    after = canonical(builder.finish(zeros))
    assert [str(op.attrs["value"]) for op in after.ops] == ["0.0", "-0.0"]
    assert after.outputs[0] is after.outputs[2]


def test_numbers_fold_in_their_own_dtype() -> None:
    builder = GraphBuilder()
    total = builder.pointwise("add", builder.constant(256.0, BF16), builder.constant(1.0, BF16))
    (op,) = canonical(builder.finish([total])).ops
    assert op.attrs["value"] == 256.0


def test_integers_that_wrap_around_are_not_taken_for_indices() -> None:
    """In i32 and smaller, where a product of positions may leave the range."""
    builder = GraphBuilder()
    position = builder.op("iota", (), {"size": 4, "dtype": I32})
    factor = builder.broadcast(builder.constant(2**30, I32), (4,))
    wrapped = builder.pointwise("mul", position, factor)
    zero = builder.broadcast(builder.constant(0, I32), (4,))
    graph = builder.finish([builder.pointwise("ge", wrapped, zero)])
    (before,), (after,) = (evaluate(g, []) for g in (graph, canonical(graph)))
    assert before.tolist() == after.tolist() == [True, True, False, False]


def test_a_chain_of_four_thousand_ops_is_folded_without_recursion() -> None:
    builder = GraphBuilder()
    x = value = builder.input("x", TensorType(F32, (3,)))
    for _ in range(4000):
        value = builder.pointwise("neg", value)
    after = canonical(builder.finish([value]))
    assert (after.ops, after.outputs) == ((), (x,))


@pytest.mark.parametrize("wide", [d for d in DTYPES.values() if d.in_kernels], ids=str)
@pytest.mark.parametrize("narrow", [d for d in DTYPES.values() if d.in_kernels and d.bytes <= 2], ids=str)
def test_holds_exactly_agrees_with_every_value(wide: DType, narrow: DType) -> None:
    """All 2**8 or 2**16 patterns, there and back; NaN apart."""
    if narrow.kind == "bool":
        values = torch.tensor([False, True])
    else:
        kind = torch.int8 if narrow.bytes == 1 else torch.int16
        limits = torch.iinfo(kind)
        values = torch.arange(limits.min, limits.max + 1).to(kind).view(narrow.torch)
        values = values[~values.double().isnan()]
    there = values.to(wide.torch)
    same = bool((there.double() == values.double()).all())
    assert holds_exactly(wide, narrow) == same


def test_holds_exactly_for_wide_integers() -> None:
    assert holds_exactly(DTYPES["f64"], I32) and not holds_exactly(F32, I32) and not holds_exactly(DTYPES["f64"], I64)


NARROW = [(BF16, BF16, BF16), (F16, F16, F16), (BF16, F8E4M3, BF16), (F16, F8E5M2, F16), (I8, BF16, BF16)]
NARROW += [(I8, I8, BF16), (B1, B1, BF16), (B1, U8, BF16), (U8, F16, F16), (F8E4M3, F8E4M3, BF16)]


@pytest.mark.parametrize(("left", "right", "multiplied"), NARROW, ids=str)
def test_products_of_widened_operands_are_of_the_narrow_ones(left: DType, right: DType, multiplied: DType) -> None:
    """Each term is exact in fp32 already: with views between the cast and the product, too."""
    builder = GraphBuilder()
    x, w = builder.input("x", TensorType(left, (6, 8))), builder.input("w", TensorType(right, (4, 2, 4)))
    rows = builder.reshape(builder.cast(w, F32), (4, 8))
    graph = builder.finish([builder.einsum("ik,jk->ij", builder.cast(x, F32), rows)])
    after = canonical(graph)
    (product,) = (op for op in after.ops if op.name == "contract")
    assert [v.dtype for v in product.inputs] == [multiplied] * 2 and product.output.dtype is F32
    assert product.attrs["exact"] and not any(op.name == "cast" and op.output.dtype is F32 for op in after.ops)
    inputs = [torch.randn(6, 8).mul(8).to(left.torch), torch.randn(4, 2, 4).to(right.torch)]
    (before,), (result,) = evaluate(graph, inputs), evaluate(after, inputs)
    assert torch.equal(before, result)


@pytest.mark.parametrize(("left", "right"), [(BF16, F32), (BF16, F16), (I32, BF16)], ids=str)
def test_products_that_no_narrow_type_holds_stay_wide(left: DType, right: DType) -> None:
    builder = GraphBuilder()
    x, w = builder.input("x", TensorType(left, (6, 8))), builder.input("w", TensorType(right, (4, 8)))
    wide = [v if v.dtype is F32 else builder.cast(v, F32) for v in (x, w)]
    graph = builder.finish([builder.einsum("ik,jk->ij", *wide)])
    assert canonical(graph) is graph
