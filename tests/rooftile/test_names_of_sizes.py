"""A run-time size may be called what axes and the variables of kernels are called otherwise."""

from __future__ import annotations

import pytest
import torch

from rooftile.config import CompileOptions
from rooftile.driver import build_program, collecting
from rooftile.errors import ParseError
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph

# A product, its rows' softmax in groups, and rows that are picked: grids, sweeps, split axes, index values.
TEXT = """\
symbols SIZE: 2..4096
graph main(%x: f32[SIZE, 12], %w: f32[12, 8], %at: i64[SIZE]) {
    with kinds=["input", "parameter", "input"]
    %c = contract[p=SIZE, q=8, r=12](%x[p, r], %w[r, q], out=[p, q], acc=f32) : f32[SIZE, 8]
    %groups = reshape(%c) : f32[SIZE, 2, 4]
    %max = reduce.max(%groups, dims=[2]) : f32[SIZE, 2]
    %top = expand(%max, dims=[0, 1]) : f32[SIZE, 2, 4]
    %sub = pointwise.sub(%groups, %top) : f32[SIZE, 2, 4]
    %exp = pointwise.exp(%sub) : f32[SIZE, 2, 4]
    %flat = reshape(%exp) : f32[SIZE, 8]
    %y = gather[p=SIZE, q=8](%flat[idx1, q], %at[p]) : f32[SIZE, 8]
    return %y
}
"""
PRODUCT = """\
symbols rows: 2..4096
graph main(%x: f32[rows, 256], %w: f32[256, 300]) {
    with kinds=["input", "parameter"]
    %y = contract[p=rows, q=300, r=256](%x[p, r], %w[r, q], out=[p, q], acc=f32) : f32[rows, 300]
    return %y
}
"""
NAMES = ("rows", "pid", "first", "tl", "range", "lambda", *"bdehijkn", "i0", "r1", "at0", "np", "x_ptr")


@pytest.mark.parametrize("name", NAMES)
def test_a_size_of_any_name_is_bound(name: str) -> None:
    graph = parse_graph(TEXT.replace("SIZE", f"`{name}`"))
    x, w, at = torch.randn(37, 12), torch.randn(12, 8), torch.arange(37).flip(0)
    (got,) = build_program(graph, CompileOptions(), torch.device("cpu"))([x, w, at], {name: 37})
    (want,) = evaluate(graph, [x, w, at], {name: 37})
    torch.testing.assert_close(got, want)


def test_the_numbering_of_programs_keeps_its_variables() -> None:
    with collecting() as compilations:
        build_program(parse_graph(PRODUCT), CompileOptions(target="h100"), torch.device("meta"))
    (kernel,) = compilations[0].kernels.values()
    assert "rows = tl.minimum(" in kernel.source
    assert [(p.name, p.size) for p in kernel.params if p.kind == "size"] == [("rows_1", "rows")]


def test_index_values_keep_their_names() -> None:
    with pytest.raises(ParseError, match="idx1 is the value of an index operand"):
        parse_graph(TEXT.replace("SIZE", "idx1"))
