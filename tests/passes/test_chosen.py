"""Sums under gates that are zero but at chosen positions, and rows in the order of the matrices that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import rooftile
from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.driver import collecting
from rooftile.ir.core import Op
from rooftile.ir.evaluator import evaluate
from rooftile.passes import ordered
from rooftile.passes.packing import is_packed
from rooftile.report.explaining import compile_afresh
from tests.gates import GATED, LOOKED_UP, LOOPED, Layer, operands, sorted_by_number
from tests.regions import compiled, meta
from tests.versions import needs_torch

SPELLINGS = {**GATED, **LOOPED, **LOOKED_UP}


def by_passes(layer: Callable[..., Any], inputs: list[Tensor], **options: Any) -> Compilation:
    with torch.no_grad():
        found = compile_afresh(layer, inputs, {}, CompileOptions(stop_after="ordered", dynamic=False, **options))
    (compilation,), _ = found
    return compilation


def result(found: Compilation, layer: Callable[..., Any], inputs: Sequence[Tensor]) -> Tensor:
    """What the graph after the passes gives; its inputs are those that the layer reads, by their names."""
    named = dict(zip(signature(layer).parameters, inputs, strict=True))
    graph = found.stages[-1].graph
    (got,) = evaluate(graph, [named[value.name] for value in graph.inputs])
    return got


def rules(compilation: Compilation) -> list[str]:
    return [entry.rule for entry in compilation.context.ledger.of("rewritten") if entry.rule in ("delta", "order")]


@st.composite
def choices(draw: st.DrawFn) -> tuple[int, Tensor]:
    """A number of experts, and for each token less than half as many that it chooses: some twice, some never."""
    experts = draw(st.integers(3, 7))
    tokens, chosen = draw(st.integers(1, 5)), draw(st.integers(1, (experts - 1) // 2))
    row = st.lists(st.integers(0, experts - 1), min_size=chosen, max_size=chosen)
    return experts, torch.tensor(draw(st.lists(row, min_size=tokens, max_size=tokens)))


@pytest.mark.parametrize("name", list(SPELLINGS))
@settings(max_examples=8, deadline=None)
@given(chosen=choices(), in_order=st.booleans())
def test_any_choices(name: str, chosen: tuple[int, Tensor], in_order: bool) -> None:
    experts, numbers = chosen
    x, w, *matrices = operands(len(numbers), experts, numbers.shape[1])
    inputs = [x, w, numbers, *matrices]
    layer = SPELLINGS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "LAUNCHES", 0 if in_order else 10**9)
        found = by_passes(layer, inputs)
    assert ("delta" in rules(found)) == (name not in LOOKED_UP)
    assert "order" not in rules(found) or in_order
    torch.testing.assert_close(result(found, layer, inputs), layer(*inputs))


def top_two(layer: Layer) -> Callable[..., Tensor]:
    """A layer whose choices come from scores, so that they are known to differ."""

    def routed(x: Tensor, router: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        weights, chosen = (x @ router).softmax(-1).topk(2)
        return layer(x, weights, chosen, up, up_bias, down, down_bias)

    return routed


@pytest.mark.parametrize("name", list(GATED))
def test_choices_that_differ_are_not_compared(name: str) -> None:
    x, _, *matrices = operands(7, 6, 2)
    inputs = [x, torch.randn(8, 6, dtype=torch.float64), *matrices]
    found = by_passes(top_two(GATED[name]), inputs)
    assert "delta" in rules(found)
    layer = top_two(GATED[name])
    torch.testing.assert_close(result(found, layer, inputs), layer(*inputs))
    assert not [op for op in found.stages[-1].graph.ops if op.attrs.get("fn") == "any"]


def test_numbers_out_of_range_choose_nothing() -> None:
    x, w, *matrices = operands(4, 5, 2)
    numbers = torch.tensor([[-1, 2], [5, 4], [7, -3], [0, 0]])
    inputs = [x, w, numbers, *matrices]
    found = by_passes(GATED["compared"], inputs)
    assert rules(found) == ["delta"]
    torch.testing.assert_close(result(found, GATED["compared"], inputs), GATED["compared"](*inputs))


def test_what_is_not_chosen_is_not_read() -> None:
    x, w, *matrices = operands(4, 6, 2)
    matrices[0][3:] = torch.nan
    inputs = [x, w, torch.tensor([[0, 1], [2, 1], [2, 0], [1, 0]]), *matrices]
    found = by_passes(GATED["scattered"], inputs)
    assert not result(found, GATED["scattered"], inputs).isnan().any()


def test_terms_of_which_most_are_chosen_are_all_computed() -> None:
    x, w, *matrices = operands(4, 5, 3)
    assert not rules(by_passes(GATED["scattered"], [x, w, torch.randint(0, 5, (4, 3)), *matrices]))


def test_products_that_are_wanted_as_a_whole_are_left() -> None:
    def layer(x: Tensor, w: Tensor, numbers: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        every = torch.bmm(x.expand(len(m), -1, -1), m)
        gate = torch.zeros(len(x), len(m), dtype=x.dtype).scatter(1, numbers, w)
        return (every * gate.T[..., None]).sum(0), every

    x, w, m, *_ = operands(4, 6, 2)
    assert not rules(by_passes(layer, [x, w, torch.randint(0, 6, (4, 2)), m]))


def test_a_sum_that_the_gate_does_not_multiply_alone_is_left() -> None:
    def layer(x: Tensor, w: Tensor, numbers: Tensor, m: Tensor) -> Tensor:
        gate = torch.zeros(len(x), len(m), dtype=x.dtype).scatter(1, numbers, w)
        return torch.bmm(x.expand(len(m), -1, -1), m).add(gate.T[..., None]).sum(0)

    x, w, m, *_ = operands(4, 6, 2)
    assert not rules(by_passes(layer, [x, w, torch.randint(0, 6, (4, 2)), m]))


def kinds(compilation: Compilation) -> list[tuple[tuple[Any, ...], ...]]:
    """The products in order: what they give, and the roles of their axes with tiles."""

    def of(op: Op) -> tuple[tuple[Any, ...], ...]:
        shape = tuple(size for size in op.output.shape if size != 1)
        return shape, tuple((role, tile) for _, role, tile in op.attrs["roles"])

    regions = [op for op in compilation.graph.ops if op.name == "region"]
    return [of(op) for op in regions if "contract" in op.attrs["name"]]


def without_biases(layer: Layer) -> Callable[..., Tensor]:
    def plain(x: Tensor, router: Tensor, up: Tensor, down: Tensor) -> Tensor:
        weights, chosen = (x @ router).softmax(-1, dtype=torch.float32).topk(8)
        return layer(x, weights.to(x.dtype), chosen, up, None, down, None)

    return plain


@pytest.mark.parametrize("name", ["scattered", "one_hot", "compared", *LOOKED_UP, *LOOPED])
@pytest.mark.parametrize("tokens", [1024, 16])
def test_all_spellings_come_to_the_same_products(name: str, tokens: int) -> None:
    inputs = (meta(tokens, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 1024, 2048))
    one, other = (compiled(without_biases(layer), inputs, "h200") for layer in (SPELLINGS[name], sorted_by_number))
    wide = name == "compared"  # its one sum of experts and columns is not rounded between
    mine, theirs = kinds(one), kinds(other)
    assert [shape for shape, _ in mine] == [shape for shape, _ in theirs]
    assert wide or mine == theirs
    assert len(one.graph.ops) <= len(other.graph.ops)


class OfTheirOwn(nn.Module):
    """A loop over 64 experts with parameters of their own."""

    def __init__(self) -> None:
        super().__init__()
        made: dict[str, Any] = {"bias": False, "dtype": torch.bfloat16, "device": "meta"}
        self.experts = nn.ModuleList(
            nn.ModuleList([nn.Linear(2048, 1024, **made), nn.Linear(2048, 1024, **made), nn.Linear(1024, 2048, **made)])
            for _ in range(64)
        )

    def forward(self, x: Tensor, router: Tensor) -> Tensor:
        weights, chosen = (x @ router).softmax(-1, dtype=torch.float32).topk(8)
        out = torch.zeros_like(x)
        for number, (gate, up, down) in enumerate(self.experts):  # type: ignore[misc]
            weight = torch.where(chosen == number, weights.to(x.dtype), 0).sum(-1, keepdim=True)
            out = out + down(nn.functional.silu(gate(x)) * up(x)) * weight
        return out


@pytest.mark.parametrize("tokens", [1024, 16])
def test_parameters_of_their_own_come_to_the_same_products(tokens: int) -> None:
    torch._dynamo.reset()
    one = compiled(OfTheirOwn().eval(), (meta(tokens, 2048), meta(2048, 64)), "h200")
    inputs = (meta(tokens, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 1024, 2048))
    other = compiled(without_biases(LOOPED["looped"]), inputs, "h200")
    assert kinds(one) == kinds(other)
    stacks = [op for op in one.graph.ops if is_packed(op)]
    assert [op.output.shape for op in stacks] == [(64, 1024, 2048), (64, 1024, 2048), (64, 2048, 1024)]
    assert len(one.graph.ops) == len(other.graph.ops) + len(stacks)


def transposed(x: Tensor, router: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """A loop over matrices that lie as those of linear layers do."""
    weights, chosen = (x @ router).softmax(-1, dtype=torch.float32).topk(8)
    out = torch.zeros_like(x)
    for n in range(len(up)):
        gate, value = (x @ up[n].T).chunk(2, -1)
        weight = torch.where(chosen == n, weights.to(x.dtype), 0).sum(-1, keepdim=True)
        out = out + (nn.functional.silu(gate) * value) @ down[n].T * weight
    return out


def test_matrices_that_lie_the_other_way_are_read_for_rows_in_order() -> None:
    inputs = (meta(1024, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 2048, 1024))
    one = compiled(transposed, inputs, "h200")
    inputs = (meta(1024, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 1024, 2048))
    assert kinds(one) == kinds(compiled(without_biases(LOOPED["looped"]), inputs, "h200"))


def test_few_rows_read_their_matrices_where_they_are() -> None:
    inputs = (meta(1, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 1024, 2048))
    found = compiled(without_biases(GATED["scattered"]), inputs, "h200")
    assert rules(found) == ["delta"]
    (left,) = {entry.rule for entry in found.context.ledger.of("cut") if "matrices" in entry.reason}
    assert left == "order"


def test_many_rows_are_not_sorted_by_aten_where_that_is_forbidden() -> None:
    inputs = (meta(1024, 2048), meta(2048, 64), meta(64, 2048, 2048), meta(64, 1024, 2048))
    found = by_passes(without_biases(LOOKED_UP["picked"]), list(inputs), target="h200", require=("no-extern",))
    assert not rules(found)
    left = [entry.reason for entry in found.context.ledger.of("cut") if entry.rule == "order"]
    assert left and all("is ruled out by no-extern" in reason for reason in left)


class Routed(nn.Module):
    """A layer with its matrices as parameters, so that the number of tokens alone is open."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        _, _, *matrices = operands(1, 6, 2)
        self.layer, self.router = layer, nn.Linear(8, 6, bias=False)
        self.matrices = nn.ParameterList(t.float() for t in matrices)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2)
        return self.layer(x, weights, chosen, *self.matrices)


@needs_torch("2.13", "Dynamo ends in a NotImplementedError of its own")
@pytest.mark.parametrize("name", ["scattered", "flattened"])
def test_any_number_of_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "LAUNCHES", 0)
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Routed((GATED | LOOKED_UP)[name])
    fast = rooftile.compile(model, dynamic=True)
    with torch.no_grad(), collecting() as compilations:
        for tokens in (7, 12, 3):
            x = torch.randn(tokens, 8)
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert len(compilations) == 1 and "order" in rules(compilations[0])
