"""Values of which a part is read: only that part is computed."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

import rooftile
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.needed import Needed
from rooftile.report.explaining import compile_afresh
from rooftile.target import CPU
from tests.experts import SortedExperts
from tests.strategies import graphs, inputs_for


class Layer(nn.Module):
    """A layer of attention and what follows it, of which ``rows`` rows are asked for."""

    def __init__(self, rows: slice, spelled: bool = True, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.rows, self.spelled, self.heads = rows, spelled, heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        h = F.rms_norm(x, (width,))
        q, k, v = (each(h).view(batch, length, self.heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        if self.spelled:
            future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = (q @ k.transpose(-1, -2)).masked_fill(future, float("-inf"))
            heads = scores.softmax(-1) @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(heads.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.up(F.rms_norm(x, (width,))).chunk(2, -1)
        x = x + self.down(F.silu(gate) * up)
        return F.rms_norm(x, (width,))[:, self.rows]


def by_passes(model: nn.Module, *inputs: Tensor) -> Compilation:
    torch._dynamo.reset()  # each model has the same code
    with torch.no_grad():
        options = CompileOptions(stop_after="needed", dynamic=False)
        ((compilation,), _) = compile_afresh(model, inputs, {}, options)
    return compilation


def after(compilation: Compilation, name: str) -> Graph:
    return next(stage.graph for stage in compilation.stages if stage.name == name)


def products(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.name == "contract"]


def narrowed(graph: Graph) -> Graph:
    found = Needed().run(graph, PassContext(CPU))
    verify(found)
    return found


def close(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for one, other in zip(got, wanted, strict=True):
        largest = other.double().abs().nan_to_num(0, 0, 0).max().item() if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * largest, equal_nan=True)


@st.composite
def partly_read(draw: st.DrawFn) -> Graph:
    """A graph of which a part of each result is asked for."""
    graph = draw(graphs())
    builder = GraphBuilder.beside(graph)
    builder.ops += graph.ops
    return builder.finish([_part(draw, builder, value) for value in graph.outputs])


def _part(draw: st.DrawFn, builder: GraphBuilder, value: Value) -> Value:
    for dim, size in enumerate(value.shape):
        if not isinstance(size, int) or size < 2:
            continue
        count = draw(st.integers(1, size))
        value = builder.slice(value, dim, draw(st.integers(0, size - count)), count)
    return value


@given(partly_read())
@settings(max_examples=60, deadline=None)
def test_any_part_of_any_graph(graph: Graph) -> None:
    graph = Canonicalize().run(graph, PassContext(CPU))
    inputs = inputs_for(graph)
    close(evaluate(narrowed(graph), inputs), evaluate(graph, inputs))


@pytest.mark.parametrize("spelled", [True, False])
@pytest.mark.parametrize("rows", [slice(-1, None), slice(0, 1), slice(3, 5)])
def test_a_layer_for_few_rows(spelled: bool, rows: slice) -> None:
    torch.manual_seed(0)
    model, x = Layer(rows, spelled).eval(), torch.randn(2, 12, 32)
    found = by_passes(model, x)
    asked = len(range(12)[rows])
    shapes = [list(op.output.shape) for op in products(after(found, "needed"))]
    assert sum(12 in shape for shape in shapes) == 3, "keys and values of all rows, and scores with all keys"
    assert [2, asked, 64] in shapes and [2, 12, 64] not in shapes
    with torch.no_grad():
        torch.testing.assert_close(rooftile.compile(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_layer_for_most_rows_stays_as_it_is() -> None:
    found = by_passes(Layer(slice(0, 7)).eval(), torch.randn(2, 12, 32))
    assert after(found, "needed") is after(found, "canonicalize")
    assert not [e for e in found.context.ledger.of("rewritten") if e.rule == "part"]


def test_what_is_left_out_is_told() -> None:
    found = by_passes(Layer(slice(-1, None)).eval(), torch.randn(2, 12, 32))
    reasons = [e.reason for e in found.context.ledger.of("rewritten") if e.rule == "part"]
    assert reasons and all("1 of 12 are read, and computed" in reason for reason in reasons)


def test_a_result_that_is_wanted_whole_stays_whole() -> None:
    text = """\
graph both(%x: f32[8, 16], %w: f32[4, 16]) {
    %y = contract[b=8, n=4, k=16](%x[b, k], %w[n, k], out=[b, n], acc=f32) : f32[8, 4]
    %e = pointwise.exp(%y) : f32[8, 4]
    %s = slice(%e, starts=[7, 0], steps=[1, 1]) : f32[1, 4]
    return %y, %s
}
"""
    graph = parse_graph(text)
    found = narrowed(graph)
    shapes = {op.name: list(op.output.shape) for op in found.ops if op.name != "slice"}
    assert shapes == {"contract": [8, 4], "pointwise": [1, 4]}
    inputs = inputs_for(graph)
    close(evaluate(found, inputs), evaluate(graph, inputs))


def test_the_end_of_a_length_known_at_run_time() -> None:
    text = """\
symbols s: 2..4096
graph last(%x: f32[b=2, t=s, k=16], %w: f32[4, 16]) {
    %y = contract[b=2, t=s, n=4, k=16](%x[b, t, k], %w[n, k], out=[b, t, n], acc=f32) : f32[2, s, 4]
    %s = slice(%y, starts=[0, s - 1, 0], steps=[1, 1, 1]) : f32[2, 1, 4]
    return %s
}
"""
    graph = parse_graph(text)
    found = narrowed(graph)
    (op,) = products(found)
    assert list(op.output.shape) == [2, 1, 4]
    inputs = inputs_for(graph, bindings={"s": 5})
    close(evaluate(found, inputs, {"s": 5}), evaluate(graph, inputs, {"s": 5}))


class LastOfExperts(nn.Module):
    """Experts whose rows are sorted by ATen, of which the last token is asked for; ``ranked``: each row also knows
    where it stands among those in order."""

    def __init__(self, ranked: bool = False) -> None:
        super().__init__()
        self.experts = SortedExperts(16, 8, 6, 2, torch.bfloat16, "cpu")
        self.ranked = ranked

    def forward(self, x: Tensor) -> Tensor:
        if not self.ranked:
            return self.experts(x)[-1:]
        _, order = self.experts.router(x)[:, 0].argmax(-1, keepdim=True).expand(len(x)).add(x[:, 0].int()).sort()
        rows = x[order] * torch.arange(len(x), device=x.device, dtype=x.dtype)[:, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=x.device)
        return rows[back][-1:]


def sorts(graph: Graph) -> int:
    return sum(op.name == "extern" for op in graph.ops)


def test_few_rows_that_were_sorted_are_computed_in_their_own_order() -> None:
    torch.manual_seed(0)
    found = by_passes(LastOfExperts().eval(), torch.randn(600, 16, dtype=torch.bfloat16))
    before, now = after(found, "canonicalize"), after(found, "needed")
    assert (sorts(before), sorts(now)) == (1, 0)
    assert max(op.output.shape[0] for op in products(now)) <= 2  # type: ignore[type-var]
    inputs = [torch.randn(600, 16).bfloat16() if v.type.rank == 2 and v.shape[0] == 600 else
              torch.randn([int(str(n)) for n in v.shape]).bfloat16() for v in before.inputs]  # fmt: skip
    (want,), (got,) = (evaluate(graph, inputs, promote=True) for graph in (before, now))
    torch.testing.assert_close(got, want)


def test_rows_that_know_their_place_in_order_stay_sorted() -> None:
    found = by_passes(LastOfExperts(ranked=True).eval(), torch.randn(1200, 16, dtype=torch.bfloat16))
    assert sorts(after(found, "canonicalize")) == sorts(after(found, "needed")) == 1
