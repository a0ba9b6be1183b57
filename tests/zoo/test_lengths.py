"""Run-time sizes: how often a model is compiled when its inputs' lengths keep changing, and that this is explained."""

from __future__ import annotations

import logging
import random

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.driver import collecting


class Pooled(nn.Module):
    """Causal attention without projections over tokens of any number, and a mean over what is not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        scores = (x @ x.mT).masked_fill(~mask, float("-inf")).softmax(-1)
        kept = (ids != 0)[..., None]
        return (scores @ x * kept).sum(1) / kept.sum(1).clamp(min=1)


@pytest.mark.parametrize("dynamic", [None, True])
def test_fifty_lengths_take_three_compilations_at_most(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, lengths = Pooled().eval(), random.Random(0).choices(range(1, 70), k=50)
    fast = rooftile.compile(model, dynamic=dynamic)
    with torch.no_grad(), collecting() as compilations:
        for length in lengths:
            ids = torch.randint(0, 16, (2, length))
            torch.testing.assert_close(fast(ids), model(ids), rtol=1e-5, atol=1e-6)
    assert 1 <= len(compilations) <= 3
    reasons = [[e.reason for e in c.context.ledger.of("compiled again")] for c in compilations]
    assert reasons[0] == [] and all(len(r) == 1 for r in reasons[1:])


def test_why_it_is_compiled_again_is_said(caplog: pytest.LogCaptureFixture) -> None:
    torch._dynamo.reset()
    fast = rooftile.compile(lambda x: x.softmax(-1))
    with caplog.at_level(logging.INFO, logger="rooftile.driver"):
        fast(torch.randn(3, 8))
        assert "compiled before" not in caplog.text
        fast(torch.randn(4, 8))
        assert "compiled before; again, since tensor 'x' size mismatch at index 0. expected 3, actual 4" in caplog.text
        fast(torch.randn(4, 8, dtype=torch.float64))
        assert "dtype mismatch" in caplog.text
