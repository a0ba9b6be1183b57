"""Weights that change in ways which no version counts: by fused optimizers, and by new memory at an old address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import rooftile
from rooftile.runtime.packed import Stamps


class Product(nn.Module):
    """``x`` times what is computed from two weights, which is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(32, 32)), nn.Parameter(torch.randn(32, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.first @ self.second).tanh()


X = torch.randn(4, 32)


def agrees(fast: Callable[..., torch.Tensor], model: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(fast(X), model(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_a_fused_optimizer_steps(kind: type[torch.optim.Optimizer]) -> None:
    model = Product().eval()
    fast, optimizer = rooftile.compile(model), kind(model.parameters(), lr=0.1, fused=True)  # type: ignore[call-arg]
    for _ in range(2):
        agrees(fast, model)
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    agrees(fast, model)


def test_a_step_that_is_compiled_itself() -> None:
    model = Product().eval()
    fast, optimizer = rooftile.compile(model), torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(2):
        agrees(fast, model)
        model(X).square().mean().backward()
        step()
    agrees(fast, model)


def test_an_exported_program_is_told_of_steps() -> None:
    model = Product().eval()
    program, optimizer = rooftile.export(model, (X,)), torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    agrees(program, model)
    model(X).square().mean().backward()
    optimizer.step()
    agrees(program, model)


def test_steps_of_others_change_nothing() -> None:
    kept, other = Product().eval(), Product()
    stamps = Stamps.of(list(kept.parameters()))
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, fused=True)
    other(X).sum().backward()
    optimizer.step()
    assert stamps.fits(list(kept.parameters()))


def test_other_memory_at_the_same_address_is_another_weight() -> None:
    memory = bytearray(4 * 32 * 32)
    model = Product().eval()
    fast = rooftile.compile(model)
    for scale in (1.0, 2.0):
        there = torch.frombuffer(memory, dtype=torch.float32).view(32, 32)
        there.copy_(torch.eye(32) * scale)
        model.first.data = there
        del there
        agrees(fast, model)


def test_memory_that_is_shared_and_still_there_is_the_same() -> None:
    weight = nn.Parameter(torch.randn(4, 4)[1:])
    stamps = Stamps.of([weight])
    assert stamps.fits([weight])
    weight.data = weight.data.view_as(weight)
    assert stamps.fits([weight])
    weight.data = weight.data.clone()
    assert not stamps.fits([weight])
