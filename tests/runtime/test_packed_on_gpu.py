"""What is kept of weights, and shared launches, on a GPU: on several streams, in CUDA graphs, with changing weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rooftile
from rooftile.driver import collecting

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


class Rotated(nn.Module):
    """Two projections, rotated by tables that a buffer decides, and one that is not, all of the same input."""

    def __init__(self, width: int = 512, head: int = 64) -> None:
        super().__init__()
        self.q = nn.Linear(width, 8 * head, bias=False)
        self.k = nn.Linear(width, 8 * head, bias=False)
        self.v = nn.Linear(width, 8 * head, bias=False)
        self.register_buffer("frequency", 1e4 ** (-torch.arange(head // 2) / (head // 2)))
        self.head = head

    def heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.view(projected.shape[0], -1, self.head).transpose(0, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        angle = torch.arange(x.shape[0], device=x.device)[:, None] * self.frequency.float()
        angles = torch.cat((angle, angle), dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        q, k = self.heads(self.q(x)), self.heads(self.k(x))
        return rotated(q, cos, sin), rotated(k, cos, sin), self.heads(self.v(x))


def rotated(t: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = t.chunk(2, dim=-1)
    return t * cos + torch.cat((-high, low), dim=-1) * sin


def model_and_input() -> tuple[Rotated, torch.Tensor]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Rotated().to("cuda", torch.bfloat16).eval()
    return model, torch.randn(2048, 512, device="cuda", dtype=torch.bfloat16)


def agrees(fast: object, model: nn.Module, x: torch.Tensor) -> None:
    for ours, eager in zip(fast(x), model(x), strict=True):  # type: ignore[operator]
        torch.testing.assert_close(ours, eager, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_weights_that_change(mode: str) -> None:
    model, x = model_and_input()
    fast = rooftile.compile(model, mode=mode)
    with torch.no_grad():
        for _ in range(4):
            agrees(fast, model, x)
        for _ in range(12):  # more often than a recording may be made again
            model.frequency.mul_(1.1)
            agrees(fast, model, x)
        model.frequency.data.mul_(2)
        fast.invalidate()  # type: ignore[operator]
        agrees(fast, model, x)


def test_a_call_on_another_stream_waits_for_what_is_kept() -> None:
    model, x = model_and_input()
    fast = rooftile.compile(model)
    with torch.no_grad():
        wanted = model(x)
        fast(x)
        model.frequency.mul_(1)  # computed again, on the stream of the first call
        first, second = torch.cuda.Stream(), torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(first):
            torch.cuda._sleep(10_000_000)
            fast(x)
        with torch.cuda.stream(second):
            ours = fast(x)
        torch.cuda.synchronize()
    for mine, eager in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, eager, rtol=2e-2, atol=2e-2)


def test_a_call_that_is_captured_while_nothing_is_kept() -> None:
    model, x = model_and_input()
    fast = rooftile.compile(model)
    with torch.no_grad():
        fast(x)
        model.frequency.mul_(1.5)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            ours = fast(x)
        graph.replay()
        torch.cuda.synchronize()
        for mine, eager in zip(ours, model(x), strict=True):
            torch.testing.assert_close(mine, eager, rtol=2e-2, atol=2e-2)
        agrees(fast, model, x)


def test_projections_are_one_launch() -> None:
    model, x = model_and_input()
    with torch.no_grad():
        report = rooftile.explain(model, x)
    assert len(report.kernels) == 1 and report.packed
    assert report.kernels[0].time_us


class Experts(nn.Module):
    """Experts with weights of their own, which are laid one behind the other."""

    def __init__(self, device: str) -> None:
        super().__init__()
        made = {"bias": False, "device": device, "dtype": torch.bfloat16}
        self.experts = nn.ModuleList(nn.Linear(64, 64, **made) for _ in range(8))

    def forward(self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        terms = (e(x) * ((chosen == n) * weights).sum(-1, keepdim=True) for n, e in enumerate(self.experts))
        return sum(terms, torch.zeros_like(x))


def tokens(count: int, device: str) -> tuple[torch.Tensor, ...]:
    x, weights = torch.randn(count, 64), torch.rand(count, 2)
    chosen = torch.randint(0, 8, (count, 2), device=device)
    return x.to(device, torch.bfloat16), weights.to(device, torch.bfloat16), chosen


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_weights_one_behind_the_other_that_change(mode: str, device: str = "cuda") -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Experts(device).eval()
    fast = rooftile.compile(model, mode=mode, dynamic=False)
    inputs = [tokens(count, device) for count in (512, 3)]
    with torch.no_grad(), collecting() as compilations:
        for scale in (1.0, 1.0, 1.0, 2.0, 0.5, 3.0):
            model.experts[5].weight.mul_(scale)
            for given in inputs:
                torch.testing.assert_close(fast(*given), model(*given), rtol=2e-2, atol=5e-2)
        model.load_state_dict(Experts(device).state_dict(), assign=True)
        for given in inputs * 3:
            torch.testing.assert_close(fast(*given), model(*given), rtol=2e-2, atol=5e-2)
    for compilation in compilations:
        assert [entry for entry in compilation.context.ledger if entry.rule == "stack"]
