"""Rule Associate inside a region: products that are summed once more are one sum, over both axes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rooftile.accuracy import promised, truth
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import BF16, F16, F32, DType
from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.fusion.judge import judge
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.rules import mixing
from rooftile.target import H100
from tests.answers import assert_same_answer
from tests.strategies import inputs_for

QUERIES, KEYS = 21, 75


def mixed(heads: int, size: int, dtype: DType = F32, mixing_dtype: DType | None = None) -> tuple[GraphBuilder, Value]:
    """Scores whose heads are mixed, each with a factor of its own before that."""
    b = GraphBuilder()
    q = b.input("q", TensorType(dtype, (heads, QUERIES, size)))
    k = b.input("k", TensorType(dtype, (heads, KEYS, size)))
    w = b.input("w", TensorType(mixing_dtype or dtype, (heads, heads)))
    scores = b.pointwise("mul", b.einsum("gid,gjd->gij", q, k), b.constant(0.5, dtype))
    wide = b.permute(b.cast(scores, w.dtype), [1, 2, 0])
    return b, b.einsum("ijg,hg->hij", wide, w)


def body_of(b: GraphBuilder, result: Value, dtype: DType) -> Graph:
    """The softmax of ``result`` times values."""
    heads, size = b.inputs[0].shape[0], b.inputs[0].shape[2]
    e = b.pointwise("exp", b.pointwise("sub", result, b.reduce("max", result, [2], keepdim=True)))
    weights = b.cast(b.pointwise("div", e, b.reduce("sum", e, [2], keepdim=True)), dtype)
    v = b.input("v", TensorType(dtype, (heads, KEYS, size)))
    return b.finish([b.einsum("hij,hjd->hid", weights, v)])


def first_contraction(graph: Graph) -> Op:
    return next(op for op in graph.ops if op.name == "contract")


@pytest.mark.parametrize(("dtype", "wide"), [(F32, F32), (BF16, BF16), (BF16, F32)], ids=lambda d: d.name)
def test_the_factor_joins_the_operand_that_is_not_swept(dtype: DType, wide: DType) -> None:
    before = body = body_of(*mixed(3, 5, dtype, wide), dtype)
    rules: list[str] = []
    while (applied := mixing.apply(body, first_contraction(body))) is not None:
        body, steps = applied
        verify(body)
        rules += [step.rule for step in steps if "rounded" not in step.after]
    assert rules == ["commute", "associate"]
    scores = first_contraction(body)
    assert sorted(v.shape for v in scores.inputs) == [(3, QUERIES, 15), (KEYS, 15)]
    assert scores.output.shape == (3, QUERIES, KEYS)
    assert steps[0].after == "contract(%q * %w, %k)"
    assert_same_answer(before, body, inputs_for(before, 0), slack=1e-6)


def test_results_whose_overflow_would_not_be_seen_are_left() -> None:
    body = body_of(*mixed(3, 5, F16), F16)
    assert mixing.apply(body, first_contraction(body)) is None


def test_results_that_others_sum_otherwise_are_left() -> None:
    b = GraphBuilder()
    q, k = (b.input(name, TensorType(F32, (3, n, 5))) for name, n in (("q", QUERIES), ("k", KEYS)))
    most = b.reduce("max", b.einsum("gid,gjd->gij", q, k), [2])
    body = b.finish([b.einsum("gi,gi->g", most, most)])
    assert mixing.apply(body, first_contraction(body)) is None


@pytest.mark.parametrize(("heads", "role"), [(4, "whole"), (16, "loop")])
def test_the_sum_over_both_is_held_whole_or_swept_inside_the_sweep(heads: int, role: str) -> None:
    body = body_of(*mixed(heads, 64, BF16), BF16)
    verdict = judge(body, H100)
    assert verdict.derivation is not None, verdict.reason
    assert "associate" in [step.rule for step in verdict.derivation.steps]
    derived = replace(verdict.derivation.body, name="all")
    builder = GraphBuilder()
    given = [builder.input(v.name, v.type) for v in derived.inputs]
    alone = builder.finish(builder.region(derived, given, {"name": "all"}))
    after = Manager(verify=True).run(alone, PIPELINE[5:], PassContext(H100))[-1].graph
    roles = {a.extent: a.role for a in Schedule.from_attrs(after.ops[0].attrs).axes}
    assert roles[heads * 64] == role
    inputs = inputs_for(alone, 0)
    ours, eager = evaluate(after, inputs, lowered=True), evaluate(body, inputs)
    assert all(a.kept for a in promised(ours, eager, truth(body, inputs)))
