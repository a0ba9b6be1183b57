"""The report on a model of 32 layers: small enough to send, and quick to open."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rooftile.config import CompileOptions
from rooftile.report.explaining import explain_with
from rooftile.textbook import RMSNorm, SwiGLU
from tests.browser import BROWSER, WHY_NONE, Browser

LAYERS = 32


class Layers(nn.Module):
    """A feed-forward network of many layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RMSNorm(64) for _ in range(LAYERS))
        self.layers = nn.ModuleList(SwiGLU(64, 128) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x))
        return x


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.device("meta"):
        model, x = Layers(), torch.empty(1, 128, 64)
    report = explain_with(model, (x,), {}, CompileOptions(target="h100"))
    assert len(report.kernels) >= 2 * LAYERS
    return report.save(tmp_path_factory.mktemp("large") / "r.html")


def test_it_is_small(page: Path) -> None:
    assert page.stat().st_size < 1e6  # 10 MB are what is promised, for whole transformer layers


@pytest.mark.skipif(BROWSER is None, reason=WHY_NONE)
def test_it_opens_in_three_seconds(page: Path) -> None:
    browser = Browser()
    try:
        browser.window(1280, 800)
        assert min(browser.open(page) for _ in range(3)) < 3
        assert min(browser.open(page, "#graph") for _ in range(3)) < 3
        browser.until("document.querySelectorAll('.box[data-step]').length >= 64")
        assert browser.count(".box .node") < 2000  # what is out of sight is not drawn
        browser.key("3")
        browser.until("document.querySelectorAll('#ir .ln').length > 0")
        assert browser.errors == []
    finally:
        browser.close()
