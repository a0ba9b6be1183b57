"""The report on a Llama of 32 layers: small enough to send, quick to open, and what is equal is compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rooftile.config import CompileOptions
from rooftile.report import Report
from rooftile.report.explaining import explain_with
from rooftile.runtime.cache_key import cache_key
from tests.browser import BROWSER, WHY_NONE, Browser

LAYERS = 32
SECONDS, BYTES = 3.0, 10e6  # what is promised
VIEWS = ("overview", "graph", "passes", "roofline", "memory", "masks", "decisions")


@pytest.fixture(scope="module")
def report() -> Report:
    """Llama 8B of Hugging Face's transformers, on 2048 tokens, on shapes alone."""
    from transformers import LlamaConfig, LlamaModel

    torch._dynamo.reset()
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=LAYERS,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        use_cache=False,
    )
    with torch.device("meta"):
        model, tokens = LlamaModel(config).to(torch.bfloat16).eval(), torch.empty(1, 2048, dtype=torch.long)
    with torch.no_grad():
        return explain_with(model, (tokens,), {"use_cache": False}, CompileOptions(target="h100"))


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.save(tmp_path_factory.mktemp("large") / "r.html")


def test_equal_layers_share_kernels(report: Report) -> None:
    (compilation,) = report.compilations
    assert len(report.kernels) >= 6 * LAYERS and report.uncompiled == 0
    distinct = {cache_key(kernel, compilation.target.arch) for kernel in compilation.kernels.values()}
    assert len(distinct) <= 20  # a few for a layer, others for the first and the last, and for the mask


def test_it_is_small(page: Path) -> None:
    assert page.stat().st_size < BYTES / 5


@pytest.mark.skipif(BROWSER is None, reason=WHY_NONE)
def test_it_opens_in_three_seconds_in_every_view(page: Path, report: Report) -> None:
    browser = Browser()
    try:
        browser.window(1280, 800)
        for view in VIEWS:
            assert min(browser.open(page, f"#{view}") for _ in range(2)) < SECONDS, view
        browser.open(page, "#overview")
        assert browser.count("#kernels tbody tr") == len(report.kernels)
        browser.key("2")
        browser.until(f"document.querySelectorAll('.box[data-step]').length === {len(report.kernels)}")
        assert browser.count(".box .node") < 2000  # what is out of sight is not drawn
        browser.key("3")
        browser.until("document.querySelectorAll('#ir .ln').length > 0")
        assert browser.errors == []
    finally:
        browser.close()
