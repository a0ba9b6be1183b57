"""The last wave's tiles in pieces: every element is computed once, for any number of tiles, programs and pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.accuracy import promised
from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType
from rooftile.ir.dtypes import BF16, F32
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Size, Symbol, axis, of
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.schedules.override import rescheduled, with_tiles
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.plan import make_plan
from rooftile.runtime.program import Program
from rooftile.target import H100

DEPTH = 40
FEW = replace(H100, sm_count=6)


def product(rows: Size, columns: int) -> Graph:
    """``tanh(x @ w.T) + bias`` with a residual."""
    b = GraphBuilder("product")
    x, w = b.input("x", TensorType(BF16, (rows, DEPTH))), b.input("w", TensorType(BF16, (columns, DEPTH)))
    residual = b.input("residual", TensorType(BF16, (rows, columns)))
    axes = (("i", rows), ("k", DEPTH), ("j", columns))
    i, k, j = (axis(*each) for each in axes)
    y = b.contract(axes, [x, w], [[i, k], [j, k]], ["i", "j"], acc=F32, dtype=F32)
    total = b.pointwise("add", b.pointwise("tanh", y), b.cast(residual, F32))
    return b.finish([b.cast(total, BF16)])


def scheduled(graph: Graph, rows: int, columns: int, **options: Any) -> tuple[Op, Kernel]:
    """The region of ``graph`` in tiles of so many rows and columns, by persistent programs, and its kernel."""
    op = Manager().run(graph, PIPELINE, PassContext(H100))[-1].graph.ops[-1]
    chosen = Schedule.from_attrs(op.attrs)
    grid = [a.name for a in chosen.axes if a.role == "grid"]
    tiles = dict(zip(grid, (rows, columns), strict=True)) | {a.name: 16 for a in chosen.axes if a.role == "loop"}
    schedule = replace(with_tiles(chosen, **tiles), descriptors=True, persistent=True, flatten=True, **options)
    op = Lower().lower(rescheduled(op, schedule))
    return op, emit(op.regions[1], FEW, op.regions[0])


def assert_right(graph: Graph, op: Op, kernel: Kernel, rows: int, sizes: dict[str, int]) -> None:
    plan = make_plan(Graph("product", op.inputs, (op,), op.outputs), {op: kernel})
    generator = torch.Generator().manual_seed(rows)
    columns = int(str(graph.inputs[1].type.shape[0]))
    shapes = ((rows, DEPTH), (columns, DEPTH), (rows, columns))
    inputs = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    got = Program(plan, [CpuLauncher(kernel)], torch.device("cpu"))(inputs, sizes)
    exact = evaluate(graph, inputs, sizes, promote=True)
    (accuracy,) = promised(got, evaluate(graph, inputs, sizes), exact)
    assert accuracy.kept, accuracy


PIECES = st.sampled_from([(1, 2), (2, 2), (4, 2), (1, 4), (2, 4)])  # of the epilogue and of the last tiles


@settings(max_examples=40)
@given(st.integers(17, 150), st.integers(17, 300), st.sampled_from([32, 64]), PIECES)
def test_any_number_of_tiles(rows: int, columns: int, tile: int, pieces: tuple[int, int]) -> None:
    graph = product(rows, columns)
    op, kernel = scheduled(graph, 16, tile, epilogue=pieces[0], tail=pieces[1])
    assert_right(graph, op, kernel, rows, {})


def test_any_number_of_tiles_that_is_known_at_run_time() -> None:
    rows = Symbol("s0", None, lo=2)
    graph = product(of(rows), 96)
    op, kernel = scheduled(graph, 16, 32, tail=2)
    assert "for piece in " in kernel.source
    for count in (2, 16, 17, 32, 33, 48, 64, 65, 100):
        assert_right(graph, op, kernel, count, {"s0": count})


@pytest.mark.parametrize(
    ("tiles", "pieces", "whole", "cut"), [(8, 2, 6, 4), (9, 2, 6, 6), (7, 4, 6, 4), (2, 2, 0, 4), (14, 2, 12, 4)]
)
def test_what_is_left_runs_at_once(tiles: int, pieces: int, whole: int, cut: int) -> None:
    _, kernel = scheduled(product(16 * tiles, 64), 16, 64, tail=pieces)
    assert f"in tl.range(tl.program_id(0), {whole}, 6, flatten=True):" in kernel.source
    assert f"for piece in range(tl.program_id(0), {cut}, 6):" in kernel.source
    assert f"last tiles in {pieces} pieces" in kernel.source
    assert kernel.programs({}) == (min(6, max(tiles, cut)),)


@pytest.mark.parametrize(("tiles", "pieces"), [(6, 2), (12, 2), (10, 2), (8, 4), (11, 2)])
def test_nothing_is_cut_where_the_pieces_would_not_run_at_once(tiles: int, pieces: int) -> None:
    (_, kernel), (_, plain) = (scheduled(product(16 * tiles, 64), 16, 64, tail=n) for n in (pieces, 1))
    assert "piece" not in kernel.source.split("import triton", 1)[1]
    body, same = (each.source.split("import triton", 1)[1] for each in (kernel, plain))
    assert body == same


def test_one_tile_is_all() -> None:
    graph = product(20, 50)
    op, kernel = scheduled(graph, 32, 64, tail=2)
    assert "piece" not in kernel.source.split("import triton", 1)[1]
    assert kernel.programs({}) == (1,)
    assert_right(graph, op, kernel, 20, {})


def test_options_that_a_tail_does_not_go_with() -> None:
    op, kernel = scheduled(product(16 * 8, 64), 16, 64, tail=2)
    assert "for piece in " in kernel.source
    for options in ({"persistent": False}, {"specialize": True, "num_warps": 4}):
        changed = Lower().lower(rescheduled(op, replace(Schedule.from_attrs(op.attrs), **options)))
        assert "for piece in " not in emit(changed.regions[1], FEW, changed.regions[0]).source
