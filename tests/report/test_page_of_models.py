"""The report's page on models of every kind: each view and each kernel is shown, and nothing is complained about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from rooftile.config import CompileOptions
from rooftile.report.explaining import explain_with
from tests.browser import BROWSER, WHY_NONE, Browser
from tests.models import BLOCKS
from tests.passes.test_summarize import Documents, numbered
from tests.rooftile.models_to_name import sorted_scores

pytestmark = pytest.mark.skipif(BROWSER is None, reason=WHY_NONE)

VIEWS = ("overview", "graph", "passes", "roofline", "memory", "masks", "decisions")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


def documents() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Attention within documents of 500, 600 and 300 tokens."""
    q, k, v = (torch.randn(1, 4, 1400, 16) for _ in range(3))
    return Documents(), (q, k, v, numbered([500, 1100], 1400)[None])


MODELS = {**BLOCKS, "documents": documents}


def breaks(x: torch.Tensor) -> torch.Tensor:
    x = torch.msort(x) * 2
    torch._dynamo.graph_break()
    return x.exp()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (sorted_scores, CompileOptions()),
        (breaks, CompileOptions()),
        (nn.Linear(8, 8), CompileOptions(dynamic=True)),
        (nn.Identity(), CompileOptions()),
        (nn.Softmax(-1), CompileOptions(stop_after="axes")),
        ("llama", CompileOptions()),
        ("bert", CompileOptions(dynamic=True)),
        ("vit", CompileOptions(target="h100")),
        ("documents", CompileOptions()),
    ],
    ids=["aten call", "two graphs", "run-time sizes", "nothing", "stopped early", "llama", "bert", "vit", "documents"],
)
def test_every_view_copes_with(
    browser: Browser, model: nn.Module | str, options: CompileOptions, tmp_path: Path
) -> None:
    torch._dynamo.reset()  # behind a module that computes nothing, Dynamo skips the calls of all others
    module, inputs = MODELS[model]() if isinstance(model, str) else (model, (torch.randn(5, 8),))
    with torch.no_grad():
        report = explain_with(module, inputs, {}, options)
    browser.errors.clear()
    browser.window(1280, 800)
    browser.open(report.save(tmp_path / "r.html"))
    for number in range(1, len(VIEWS) + 1):
        browser.key(str(number))
        browser.until(f"document.querySelector('#tabs [data-view={VIEWS[number - 1]}]').ariaSelected === 'true'")
        browser.until("document.querySelector('#view').innerText.length > 5")
    browser.key("1")
    for kernel in (*report.kernels, *report.packed):
        browser.key("j")
        browser.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(kernel.name)}")
        for key in "oicls" if kernel.kind == "triton" else "ls":
            browser.key(key)
            tab = {"o": "ops", "i": "ir", "c": "triton", "l": "lines", "s": "summary"}[key]
            browser.until(f"document.querySelector('#detail [data-tab={tab}]')?.ariaSelected === 'true'")
            assert browser.count("#detail tbody tr") or key != "o"
    assert browser.errors == []


def test_a_mask_of_data_is_drawn(browser: Browser, tmp_path: Path) -> None:
    torch._dynamo.reset()
    report = explain_with(*documents(), {}, CompileOptions())
    browser.errors.clear()
    browser.open(report.save(tmp_path / "r.html"), "#masks")
    browser.until("document.querySelectorAll('.pictures .tile.masked').length > 0")
    (loop,) = [loop for kernel in report.kernels for loop in kernel.loops if len(loop.phases) > 1]
    assert isinstance(loop.visited, int) and isinstance(loop.total, int)
    assert f"{100 * loop.visited / loop.total:.1f}% of the steps" in browser.text("#view")
    assert browser.errors == []
