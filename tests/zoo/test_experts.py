"""Experts as models spell them: each way gives eager's result, and for few tokens leaves nothing to ATen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.cases import forward, inputs
from rooftile.checking import check
from rooftile.driver import collecting
from rooftile.passes.packing import is_packed
from rooftile.report.breaks import breaks_seen

EXPERTS, CHOSEN, WIDTH, INNER, TOKENS = 6, 2, 16, 8, 10


class Experts(nn.Module):
    """A router, and experts with SwiGLU; ``forward`` is what a subclass spells."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, 2 * INNER) / 4)
        self.down = nn.Parameter(torch.randn(EXPERTS, INNER, WIDTH) / 4)

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights, chosen = self.router(x).softmax(-1).topk(CHOSEN)
        return weights / weights.sum(-1, keepdim=True), chosen


def swiglu(hidden: Tensor) -> Tensor:
    gate, up = hidden.chunk(2, -1)
    return nn.functional.silu(gate) * up


class Grouped(Experts):
    """Tokens sorted by expert, one product over groups of rows."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.histc(chosen.flatten().float(), bins=EXPERTS, min=0, max=EXPERTS - 1)
        ends = counts.cumsum(0).to(torch.int32)
        hidden = swiglu(torch._grouped_mm(x[order // CHOSEN], self.up, ends))
        found = torch._grouped_mm(hidden, self.down, ends) * weights.flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=x.device)
        return found[back].view(len(x), CHOSEN, WIDTH).sum(1)


class Batched(Experts):
    """Every expert for every token, weighted by a gate that is zero for those not chosen."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        gate = torch.zeros(len(x), EXPERTS, dtype=x.dtype, device=x.device).scatter(1, chosen, weights)
        hidden = swiglu(torch.bmm(x.expand(EXPERTS, -1, -1), self.up))
        return (torch.bmm(hidden, self.down) * gate.T[..., None]).sum(0)


class Picked(Experts):
    """For every choice its expert's weights, gathered."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        hidden = swiglu(torch.einsum("tw,tcwi->tci", x, self.up[chosen]))
        return (torch.einsum("tci,tciw->tcw", hidden, self.down[chosen]) * weights[..., None]).sum(1)


class LoopedWithWhere(Experts):
    """One expert after another over all tokens, added where it was chosen."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        result = torch.zeros_like(x)
        for number in range(EXPERTS):
            weight = torch.where(chosen == number, weights, 0).sum(-1, keepdim=True)
            result = result + swiglu(x @ self.up[number]) @ self.down[number] * weight
        return result


class OfTheirOwn(nn.Module):
    """Experts with parameters of their own."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(SwiGLU(bias) for _ in range(EXPERTS))

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights, chosen = self.router(x).sigmoid().topk(CHOSEN)
        return weights / weights.sum(-1, keepdim=True), chosen


class SwiGLU(nn.Module):
    """Two matrices up and one down."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, INNER, bias), nn.Linear(WIDTH, INNER, bias)
        self.down = nn.Linear(INNER, WIDTH, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class LoopedOverModules(OfTheirOwn):
    """One expert after another over all tokens, weighted where it was chosen."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            out = out + expert(x) * ((chosen == number) * weights).sum(-1)[:, None]
        return out


class LoopedOverModulesWithBiases(LoopedOverModules):
    """The same, with biases."""

    def __init__(self) -> None:
        super().__init__(bias=True)


class LoopedWithMasks(OfTheirOwn):
    """What an expert gives is added where it is the first choice, weighted with that."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            out += torch.where((chosen[:, 0] == number)[:, None], expert(x), 0) * weights[:, :1]
        return out


class Stacked(OfTheirOwn):
    """What all experts give, under gates that are zero for those not chosen."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        gate = torch.zeros(len(x), EXPERTS, dtype=x.dtype, device=x.device).scatter(1, chosen, weights)
        return torch.einsum("te,ted->td", gate, torch.stack([expert(x) for expert in self.experts], 1))


class LoopedOverRows(Experts):
    """One expert after another over the rows that chose it, whose number is data."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.routed(x)
        result = torch.zeros_like(x)
        for number in range(EXPERTS):
            rows, choice = torch.where(chosen == number)
            found = swiglu(x[rows] @ self.up[number]) @ self.down[number]
            result.index_add_(0, rows, found * weights[rows, choice, None])
        return result


MODULES = (LoopedOverModules, LoopedOverModulesWithBiases, LoopedWithMasks, Stacked)
IN_ONE_GRAPH = (Grouped, Batched, Picked, LoopedWithWhere, *MODULES)


def close(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spelled", IN_ONE_GRAPH)
def test_experts_in_one_graph(spelled: type[Experts | OfTheirOwn]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    dtype = torch.bfloat16 if spelled is Grouped else torch.float32  # torch traces grouped products in bf16 alone
    model, x = spelled().eval().to(dtype), torch.randn(TOKENS, WIDTH, dtype=dtype)
    with torch.no_grad(), collecting() as compilations, breaks_seen() as breaks:
        got, want = rooftile.compile(model)(x), model(x)
    torch.testing.assert_close(got, want, rtol=0.02, atol=0.02) if dtype is torch.bfloat16 else close(got, want)
    (compilation,) = compilations
    assert not breaks
    assert not [op for op in compilation.graph.ops if op.name == "extern" and not is_packed(op)]
    stacks = [op for op in compilation.graph.ops if is_packed(op)]
    assert bool(stacks) == (spelled in MODULES)


@pytest.mark.parametrize("spelled", MODULES)
def test_any_number_of_tokens_of_experts_with_parameters_of_their_own(spelled: type[OfTheirOwn]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = spelled().eval()
    fast = torch.compile(model, backend="rooftile", dynamic=True)
    with torch.no_grad(), collecting() as compilations:
        for tokens in (7, 12, 3):
            verdicts = check(fast, model, (torch.randn(tokens, WIDTH),), {})
            assert all(v.kept for v in verdicts), verdicts
    assert len(compilations) == 1
    assert [entry for entry in compilations[0].context.ledger if entry.rule == "stack"]


def test_experts_over_rows_that_are_data_run_in_pieces() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, x = LoopedOverRows().eval(), torch.randn(TOKENS, WIDTH)
    fast = rooftile.compile(model)
    with torch.no_grad(), breaks_seen() as breaks:
        close(fast(x), model(x))
        close(fast(x.flip(0)), model(x.flip(0)))
    assert any("nonzero" in b.reason and "torch.where" in b.fix for b in breaks)


@pytest.mark.parametrize("way", ["batched_mm", "eager"])
def test_mixtral_spelled_in_other_ways(way: str) -> None:
    """``grouped_mm`` is among the models."""
    torch._dynamo.reset()
    of = ARCHITECTURES["mixtral"]
    model: Any = of.built("small", num_hidden_layers=1)
    model.set_experts_implementation(way)
    given = inputs(of, model, 1, 6)
    fast, plain = forward(of, rooftile.compile(model)), forward(of, model)
    if way == "eager":  # a loop over what the router chose
        with torch.no_grad():
            close(fast(**given), plain(**given))
    else:
        assert all(v.kept for v in check(fast, plain, (), given))
