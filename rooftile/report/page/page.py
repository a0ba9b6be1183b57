"""One HTML file that holds the whole report: styles, scripts and data, and nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from rooftile.report.data import Report
from rooftile.report.page import assets
from rooftile.report.page.content import content_of
from rooftile.report.text import headline

# In this order they are one script: each uses what stands before it.
SCRIPTS = (
    "data.js",
    "elements.js",
    "blocks.js",
    "format.js",
    "tooltip.js",
    "ir_text.js",
    "py_text.js",
    "diff.js",
    "code_view.js",
    "kernel_ir.js",
    "model_tree.js",
    "overview.js",
    "viewport.js",
    "graph.js",
    "passes.js",
    "roofline.js",
    "memory.js",
    "masks.js",
    "decisions.js",
    "kernel_code.js",
    "kernel.js",
    "shell.js",
)
STYLES = ("theme.css", "layout.css", "tables.css", "drawings.css", "code.css")


def page_of(report: Report) -> str:
    """The report as a page.

    The data stand in it as JSON, compressed, and are unpacked by the browser; the texts apart from the rest, so that
    the first view need not wait for them.
    """
    content, texts = content_of(report)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True, keep_trailing_newline=True)
    return environment.from_string(_asset("page.html.jinja2")).render(
        title=_title(report),
        summary=headline(report),
        styles="\n".join(map(_asset, STYLES)),
        script="\n".join(map(_asset, SCRIPTS)),
        content=_packed(content),
        texts=_packed(texts),
    )


def _title(report: Report) -> str:
    names = dict.fromkeys(c.graph.name for c in report.compilations)
    return f"{', '.join(names) or 'nothing'}: Rooftile report"


@cache
def _asset(name: str) -> str:
    return resources.files(assets).joinpath(name).read_text(encoding="utf-8")


def _packed(data: Any) -> str:
    """Base64 of gzip of JSON. The time is left out, so that one report always gives one page."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
