"""Reductions over several axes with others beside or beneath them that run over some of these axes only.

A sweep runs over one axis, so that several are merged for it: not where that would count a position more than once. And
of two sweeps one is within the other, or they follow one another: not each within the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rooftile.accuracy import promised, truth
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.evaluator import evaluate
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.target import CPU, H100, Target

SMALL_TILES = replace(CPU, max_tile_elements=32, op_seconds=0.0)


def product(x: Tensor, y: Tensor) -> Tensor:
    """``x[i, j, k]`` times ``y[n, j, k]``, summed over both ``j`` and ``k``."""
    return torch.einsum("ijk,njk->in", x, y)


def masked_product(x: Tensor, y: Tensor) -> Tensor:
    """As in the dual form of a state space model: ``j`` is both the sum's and the mask's."""
    return torch.einsum("ik,jk,ij,jn->in", x[:, 0], x[:8, 1], x[:, 2], y[0].T)


def columns_of_what_is_stored(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """One result waits for a sweep over the columns of the other, which needs none."""
    z = y + (y.sum((1, 2), keepdim=True) * 0.1).cumsum(0) * 0.3
    return z.amax(0, keepdim=True) + x * 0.01, (z.cumsum(2) * 0.3).cumsum(2) * 0.3 * y


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]]] = {
    "product_over_one": lambda x, y: product(x, y) + torch.einsum("ik,nk->in", x[:, 0], y[:, 0]),
    "masked_product": lambda x, y: masked_product(x, y) + torch.einsum("ik,kn->in", x[:, 0], y[1]),
    "mask_alone": lambda x, y: torch.einsum("ij,jn->in", x[:, 2], y[1]) + masked_product(x, y),
    "both": lambda x, y: x[:, 2] @ y[1] + masked_product(x, y) + x[:, 0] @ y[2],
    "row_sum": lambda x, y: masked_product(x, y) + x[:, 0].sum(1, keepdim=True),
    "rows_of_a_variance": lambda x, y: (x - x.sum(2, keepdim=True)).pow(2).sum((1, 2)),
    "columns_of_a_variance": lambda x, y: (x - x.sum(1, keepdim=True)).pow(2).sum((1, 2)),
    "product_of_products": lambda x, y: torch.einsum("ik,ak,in->in", x[:, 0], y[0], x[:, 1] @ y[1].T),
    "running_and_total": lambda x, y: (x.exp().cumsum(0) + x.exp().sum(0)) * x,
    "running_and_total_of_less": lambda x, y: ((x + x).cumsum(0) + x.sum(0)) * x,
    "columns_and_a_total": lambda x, y: x - x.mean(0, keepdim=True) - y.sum(),
    "columns_and_rows": lambda x, y: x[0] - x[0].mean(0, keepdim=True) - x[0].mean(1, keepdim=True),
    "columns_rows_and_a_total": lambda x, y: x - x.mean(0, keepdim=True) - x.amax(1, keepdim=True) - y.sum(),
    "all_and_rows": lambda x, y: x.exp() / x.exp().sum((1, 2), keepdim=True) * x.amax(2, keepdim=True),
}


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(x, y)


def assert_kept(
    function: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]], inputs: tuple[Tensor, Tensor], target: Target
) -> None:
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(Called(function), inputs))).graph
    lowered = Manager().run(graph, PIPELINE, PassContext(target))[-1].graph
    kept = promised(evaluate(lowered, inputs, lowered=True), evaluate(graph, inputs), truth(graph, inputs))
    assert all(a.kept for a in kept), [str(a) for a in kept]


TARGETS = pytest.mark.parametrize("target", [CPU, SMALL_TILES, H100], ids=["cpu", "small_tiles", "h100"])


@TARGETS
@pytest.mark.parametrize("name", FORMS)
def test_no_position_counts_twice(name: str, target: Target) -> None:
    torch.manual_seed(0)
    assert_kept(FORMS[name], (torch.randn(16, 8, 8), torch.randn(8, 8, 8)), target)


@TARGETS
def test_no_store_shares_a_sweep_within_one_that_it_waits_for(target: Target) -> None:
    torch.manual_seed(0)
    assert_kept(columns_of_what_is_stored, (torch.randn(6, 5, 6), torch.randn(6, 5, 6)), target)
