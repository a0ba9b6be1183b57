"""Gradients: the forward is the inference graph, backward differentiates the original, and both agree with eager."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rooftile import recompute
from tests.frontend.captures import Recorder
from tests.models import BLOCKS


def compiled(function: Any, **options: Any) -> tuple[Any, Recorder]:
    torch._dynamo.reset()
    recorder = Recorder()
    return torch.compile(function, backend=recorder, fullgraph=True, **options), recorder


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit", "encoder", "textbook_geglu", "learned_positions"])
def test_gradients_of_blocks(name: str, dynamic: bool) -> None:
    module, inputs = BLOCKS[name]()
    plain = copy.deepcopy(module)
    x = [i.clone().requires_grad_(i.is_floating_point()) for i in inputs]
    y = [i.clone().requires_grad_(i.is_floating_point()) for i in inputs]
    fast, recorder = compiled(module, dynamic=dynamic)
    got, want = fast(*x), plain(*y)
    weights = torch.randn_like(want)
    (got * weights).sum().backward()
    (want * weights).sum().backward()
    assert not recorder.externs and len(recorder.imported[0].graph.outputs) == 1
    for a, b in zip([*x, *module.parameters()], [*y, *plain.parameters()], strict=True):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            assert torch.allclose(a.grad, b.grad, atol=1e-5, rtol=1e-4)


def test_what_requires_a_gradient_is_as_in_eager() -> None:
    def mixed(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        y = x @ w
        with torch.no_grad():
            frozen = y * 2
            views = y[1], w[1:], w.detach().t()
        shaped = torch.full_like(w, 2.0), w.new_ones(3)
        return y, frozen, y.detach(), x * 2, y.argmax(-1), y[0], (y > 0), *views, *shaped, w[0], w.t().detach()

    x, w = torch.randn(3, 4), torch.randn(4, 5, requires_grad=True)
    fast = compiled(mixed)[0]
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            got, want = fast(x, w), mixed(x, w)
        for a, b in zip(got, want, strict=True):
            assert torch.allclose(a, b) and (a.requires_grad, a.is_leaf) == (b.requires_grad, b.is_leaf)


def test_gradients_flow_through_views_and_several_outputs() -> None:
    def several(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.sin(x)
        return y, y.t(), x.view(-1)[2:]

    x = torch.randn(3, 4, requires_grad=True)
    fast = compiled(several)[0]
    got, want = (torch.autograd.grad(sum((o**2).sum() for o in f(x)), x)[0] for f in (fast, several))
    assert torch.allclose(got, want)


def test_gradients_of_gradients() -> None:
    def energy(x: Tensor, w: Tensor) -> Tensor:
        return F.gelu(x @ w).square().mean()

    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)

    def penalty(function: Any) -> tuple[Tensor, ...]:
        (force,) = torch.autograd.grad(function(x, w), x, create_graph=True)
        return torch.autograd.grad(force.square().sum(), (x, w))

    for got, want in zip(penalty(compiled(energy)[0]), penalty(energy), strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def test_dropout_in_training_draws_the_same_numbers_in_backward() -> None:
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)).train()
    x = torch.randn(4, 8, requires_grad=True)
    fast = compiled(module)[0]
    torch.manual_seed(3)
    got = fast(x)
    after = torch.randn(1)
    (gradient,) = torch.autograd.grad(got.sum(), x)
    torch.manual_seed(3)
    want = module(x)
    assert torch.equal(got, want) and torch.equal(after, torch.randn(1))
    assert torch.allclose(gradient, torch.autograd.grad(want.sum(), x)[0])


def test_writes_are_differentiable_and_saved_values_are_those_from_before() -> None:
    def store(cache: Tensor, x: Tensor) -> Tensor:
        y = (cache + 1) * x
        cache.copy_(x * 3)
        return y

    def both(function: Any) -> tuple[Tensor, Tensor]:
        cache, x = torch.arange(4.0), torch.ones(4, requires_grad=True)
        y = function(cache, x)
        return torch.autograd.grad(y.sum() + cache.square().sum(), x)[0], cache.detach()

    for got, want in zip(both(compiled(store)[0]), both(store), strict=True):
        assert torch.equal(got, want)


def test_no_gradient_is_recorded_where_none_is_wanted() -> None:
    module, (x,) = BLOCKS["textbook"]()
    fast = compiled(module)[0]
    with torch.no_grad():
        assert not fast(x).requires_grad
    with torch.inference_mode():
        assert fast(x).is_inference()


def test_recomputation_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    recompute._say_once.cache_clear()
    caplog.set_level(logging.INFO, logger="rooftile")
    fast = compiled(torch.sin)[0]
    for _ in range(2):
        fast(torch.randn(3, requires_grad=True)).sum().backward()
    assert [r.message for r in caplog.records if "backward" in r.message] == [caplog.records[0].message]


def test_saved_tensors_are_those_of_the_call_though_it_compiles() -> None:
    """Checkpoints count them: the first call, which compiles, must save what later calls do."""
    module, x = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()), torch.randn(3, 8)
    fast, _ = compiled(module)
    counts: list[list[type]] = []
    for _ in range(2):
        seen: list[type] = []
        counts.append(seen)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(type(t)) or t, lambda t: t):
            fast(x)
    assert counts[0] == counts[1]


def test_a_layer_is_compiled_inside_of_a_checkpoint() -> None:
    module, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.randn(3, 8)
    plain = copy.deepcopy(module)
    fast, _ = compiled(module)
    checkpoint(fast, x, use_reentrant=False).sum().backward()
    plain(x).sum().backward()
    torch.testing.assert_close(module[0].weight.grad, plain[0].weight.grad)


def test_an_input_may_be_made_in_inference_mode() -> None:
    weight = nn.Parameter(torch.randn(8))
    with torch.inference_mode():
        x = torch.randn(3, 8)
    fast, _ = compiled(lambda x: (x + weight).sum(0) * 2)
    fast(x).sum().backward()
    torch.testing.assert_close(weight.grad, torch.full((8,), 6.0))
