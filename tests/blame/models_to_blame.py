"""Models and predicates that the tests name on the command line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.blame.plants import block_and_inputs


def block() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return block_and_inputs()


class Overflows(nn.Module):
    """An infinity, and a NaN that comes of it."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2.0
        z = torch.exp(y * 60.0)  # overflows
        w = z - z  # inf - inf
        return w + x


def overflows() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Overflows(), (torch.linspace(0.0, 2.0, 12).reshape(3, 4),)


class Counting(nn.Module):
    """Adds what it is given to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x.sum(0))
        return x + self.total


def counting() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Counting(), (torch.ones(3, 4),)


def has_the_right_shape(ours: list[Tensor], eager: list[Tensor], exact: list[Tensor]) -> bool:
    return all(a.shape == b.shape for a, b in zip(ours, eager, strict=True))


def rounds_as_eager_does(ours: list[Any], eager: list[Any], exact: list[Any]) -> bool:
    """Not so where roundings are left out."""
    errors = [(a.double() - b.double()).norm() / b.double().norm() for a, b in zip(ours, eager, strict=True)]
    return all(error < 1e-4 for error in errors)
