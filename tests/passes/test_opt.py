"""Passes by name on IR text."""

from __future__ import annotations

import pytest

from rooftile.errors import OptionError, ParseError
from rooftile.passes.lower import Lower
from rooftile.passes.opt import PASSES, pass_named, run_named
from rooftile.target import CPU

TEXT = """\
graph main(%x: f32[4, 6]) {
    %a = pointwise.neg(%x) : f32[4, 6]
    %b = pointwise.neg(%a) : f32[4, 6]
    %c = pointwise.exp(%b) : f32[4, 6]
    return %c
}
"""


def test_runs_the_passes_in_the_order_given() -> None:
    assert run_named(TEXT, ["canonicalize", "axes"], CPU) == (
        "graph main(%x: f32[n=4, d=6]) {\n    %c = pointwise.exp(%x) : f32[n=4, d=6]\n    return %c\n}\n"
    )


def test_the_whole_pipeline_ends_in_a_kernel() -> None:
    assert "kernel " in run_named(TEXT, list(PASSES), CPU)


def test_no_pass_gives_the_text_back() -> None:
    assert run_named(TEXT, [], CPU) == TEXT


def test_options() -> None:
    assert pass_named("lower{precision='tf32'}") == Lower(precision="tf32")
    assert pass_named(" lower ") == Lower()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("canonicalise", "did you mean 'canonicalize'"),
        ("lower{precison='tf32'}", "did you mean 'precision'"),
        ("lower{precision=}", "cannot be read"),
        ("lower{precision", "unknown pass"),
    ],
)
def test_unknown_passes_and_options(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pass_named(spec)


def test_text_that_is_no_graph() -> None:
    with pytest.raises(ParseError, match=r"file.ir:line 2"):
        run_named(TEXT.replace("neg", "nag", 1), ["axes"], CPU, "file.ir")
