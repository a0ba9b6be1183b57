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

SMALL_TILES = replace(CPU, max_tile_elements=32)


def product(x: Tensor, y: Tensor) -> Tensor:
    """``x[i, j, k]`` times ``y[n, j, k]``, summed over both ``j`` and ``k``."""
    return torch.einsum("ijk,njk->in", x, y)


def masked_product(x: Tensor, y: Tensor) -> Tensor:
    """As in the dual form of a state space model: ``j`` is both the sum's and the mask's."""
    return torch.einsum("ik,jk,ij,jn->in", x[:, 0], x[:8, 1], x[:, 2], y[0].T)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
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

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


@pytest.mark.parametrize("target", [CPU, SMALL_TILES, H100], ids=["cpu", "small_tiles", "h100"])
@pytest.mark.parametrize("name", FORMS)
def test_no_position_counts_twice(name: str, target: Target) -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(16, 8, 8), torch.randn(8, 8, 8))
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(Called(FORMS[name]), inputs))).graph
    lowered = Manager().run(graph, PIPELINE, PassContext(target))[-1].graph
    (kept,) = promised(evaluate(lowered, inputs, lowered=True), evaluate(graph, inputs), truth(graph, inputs))
    assert kept.kept, str(kept)
