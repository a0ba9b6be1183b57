"""What a value varies with, and computing it over a combination of indices, against every pair of indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rooftile
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import F32, I64
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Size, Symbol, of
from rooftile.ir.reference import index_value
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.combinations.sources import sources
from rooftile.passes.differences import Differences
from rooftile.target import CPU

EAGER_TO_HOIST = PassContext(replace(CPU, launch_seconds=0.0))  # a target on which a further kernel takes no time
DEAR: tuple[Callable[[GraphBuilder, Value], Value], ...] = (
    lambda b, x: b.pointwise("sin", b.cast(x, F32)),
    lambda b, x: b.pointwise("cos", b.pointwise("tanh", b.cast(x, F32))),
    lambda b, x: b.pointwise("tan", b.cast(b.pointwise("mod", x, b.constant(5, I64)), F32)),
    lambda b, x: b.pointwise("pow", b.constant(0.9), b.pointwise("abs", b.cast(x, F32))),
)


def positions(b: GraphBuilder, sizes: tuple[Size, Size], multiples: tuple[int, int], offset: int) -> Value:
    """``multiples[0] * i + multiples[1] * j + offset`` as i64 of shape ``sizes``."""
    total = b.constant(offset, I64)
    for dim, (size, multiple) in enumerate(zip(sizes, multiples, strict=True)):
        steps = b.pointwise("mul", b.op("iota", (), {"size": size, "dtype": I64}), b.constant(multiple, I64))
        total = b.pointwise("add", b.expand(steps, sizes, (dim,)), total)
    return total


def widest(graph: Graph, wanted: Callable[[Op], bool]) -> int:
    """The largest rank of a result of the ops that are ``wanted``."""
    return max((op.output.type.rank for op in graph.ops if wanted(op)), default=0)


def is_dear(op: Op) -> bool:
    is_indirect = op.name == "gather" and len(op.inputs) > 1
    return is_indirect or op.attrs.get("fn") in ("sin", "cos", "tan", "tanh", "pow", "mod")


@st.composite
def biased(draw: Any) -> tuple[Graph, list[Tensor], dict[str, int]]:
    """Scores plus a dear function of a combination of two indices, directly or through a table that it chooses from."""
    multiples = draw(st.sampled_from([(1, -1), (-1, 1), (1, 1), (2, -1), (-1, 3), (2, 2), (-3, 3)]))
    numbers = (draw(st.integers(30, 60)), draw(st.integers(30, 60)))
    dynamic = draw(st.booleans())
    sizes: tuple[Size, Size] = (of(Symbol("s0", None, 8)), of(Symbol("s1", None, 8))) if dynamic else numbers
    b = GraphBuilder()
    scores = b.input("scores", TensorType(F32, (3, *sizes)))
    table = b.input("table", TensorType(F32, (7, 3)))
    at = positions(b, sizes, multiples, draw(st.integers(-4, 4)))
    bias = draw(st.sampled_from(DEAR))(b, at)
    if draw(st.booleans()):
        index = b.pointwise("mod", b.cast(b.pointwise("mul", bias, b.constant(9.0)), I64), b.constant(7, I64))
        names = ("i", "j")
        maps = (
            (of(Symbol("idx1")), of(Symbol("h", 3))),
            tuple(of(Symbol(n, s)) for n, s in zip(names, sizes, strict=True)),
        )
        bias = b.permute(b.gather(table, [index], [*zip(names, sizes, strict=True), ("h", 3)], maps), (2, 0, 1))
    graph = b.finish([b.pointwise("mul", scores, bias)])
    torch.manual_seed(draw(st.integers(0, 9)))
    return graph, [torch.randn(3, *numbers), torch.randn(7, 3)], dict(zip(("s0", "s1"), numbers, strict=True))


@given(biased())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_computed_once_and_is_the_same(case: tuple[Graph, list[Tensor], dict[str, int]]) -> None:
    graph, inputs, _ = case
    after = Differences().run(graph, EAGER_TO_HOIST)
    verify(after)
    assert widest(graph, is_dear) >= 2
    assert widest(after, lambda op: is_dear(op) and op.name == "pointwise") == 1
    assert widest(after, lambda op: is_dear(op) and op.name == "gather") <= 2
    for expected, result in zip(evaluate(graph, inputs), evaluate(after, inputs), strict=True):
        torch.testing.assert_close(result, expected, rtol=2e-6, atol=1e-6, equal_nan=True)


@given(biased())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_a_value_is_a_function_of_what_it_varies_with(case: tuple[Graph, list[Tensor], dict[str, int]]) -> None:
    graph, inputs, bindings = case
    known = sources(graph)
    results = evaluate(replace(graph, outputs=tuple(known)), inputs, bindings)
    for elements, source in zip(results, known.values(), strict=True):
        grid = {
            f"x{d}": torch.arange(n).reshape([-1 if e == d else 1 for e in range(elements.dim())])
            for d, n in enumerate(elements.shape)
        }
        keys = torch.zeros(elements.shape, dtype=torch.int64)
        if source.linear is not None:
            assert torch.equal(elements.to(torch.int64), keys + index_value(source.linear, grid, bindings))
        for e in source.varies:
            keys = keys * 10_007 + index_value(e, grid, bindings)
        groups = keys.flatten().unique(return_inverse=True)[1]
        first = torch.full((int(groups.max()) + 1,), -1).scatter_(0, groups, torch.arange(groups.numel()))
        torch.testing.assert_close(elements.flatten(), elements.flatten()[first[groups]], equal_nan=True)


@pytest.mark.parametrize("multiples", [(3, -2), (1, 41), (0, 1)])
def test_combinations_with_gaps_and_single_indices_stay(multiples: tuple[int, int]) -> None:
    b = GraphBuilder()
    scores = b.input("scores", TensorType(F32, (40, 40)))
    wave = b.pointwise("sin", b.cast(positions(b, (40, 40), multiples, 0), F32))
    graph = b.finish([b.pointwise("mul", scores, wave)])
    assert Differences().run(graph, EAGER_TO_HOIST) is graph


def test_conditions_stay_predicates() -> None:
    """A dear integer that is compared is not stored, nor is what the condition chooses."""
    b = GraphBuilder()
    scores = b.input("scores", TensorType(F32, (40, 50)))
    at = positions(b, (40, 50), (1, -1), 0)
    chunk = b.pointwise("floordiv", b.pointwise("floordiv", at, b.constant(3, I64)), b.constant(5, I64))
    fill = b.pointwise("where", b.pointwise("eq", chunk, b.constant(0, I64)), b.constant(0.0), b.constant(-1e4))
    graph = b.finish([b.pointwise("add", scores, fill)])
    assert Differences().run(graph, EAGER_TO_HOIST) is graph


class Biased(nn.Module):
    """Attention with a relative bias in the buckets of T5, for keys on either side, and a causal mask that is added."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(16, heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of each distance: 8 for either side, the last ones ever wider."""
        side, far = (distance > 0).long() * 8, distance.abs()
        wide = 4 + (torch.log(far.float() / 4) / 3.5 * 4).long()
        return side + torch.where(far < 4, far, torch.minimum(wide, torch.full_like(wide, 7)))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i, j = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])[None, :]
        bias = self.table(self.bucket(j - i)).permute(2, 0, 1)[None]
        mask = torch.where(j > i, torch.finfo(q.dtype).min, 0.0)
        return F.softmax(q @ k.transpose(2, 3) + (bias + mask), -1) @ v


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_relative_bias_is_a_small_kernel_of_its_own(dynamic: bool) -> None:
    torch.manual_seed(0)
    model = Biased(4).eval()
    q, k, v = torch.randn(1, 4, 200, 16), torch.randn(1, 4, 230, 16), torch.randn(1, 4, 230, 16)
    compiled = rooftile.compile(model, dynamic=dynamic)
    with torch.no_grad():
        torch.testing.assert_close(compiled(q, k, v), model(q, k, v))
        report = rooftile.explain(model, q, k, v)
    assert [row.decision for row in report.ledger].count("hoisted") == 1
    kernels = (*report.packed, *report.kernels)  # the table depends on no input but weights
    assert len(kernels) == 2 and int(str(kernels[0].bytes)) < 1e5
