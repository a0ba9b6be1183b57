"""Products of groups of rows that end where the data say: right for whatever groups there are, one kernel each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import rooftile
from rooftile.accuracy import promised
from rooftile.codegen.emit import emit
from rooftile.driver import collecting
from rooftile.ir.builder import IDX, GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType
from rooftile.ir.dtypes import BF16, F16, F32, I32, I64, DType
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Size, axis
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.space import region_access
from rooftile.passes.schedules.override import rescheduled, with_tiles
from rooftile.report.accounting import eager_bytes, kernel_work
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.plan import make_plan
from rooftile.runtime.program import Program
from rooftile.target import CPU, H100, H200, Target
from tests.regions import compiled, meta, regions

DEPTH, COLUMNS = 24, 40
WIDTH = 32  # a depth in whole tiles


def product(groups: int, rows: Size, dtype: DType, counted: DType = I32) -> Graph:
    """``x[t, k] @ w[g, k, n]`` with ``g`` the segment of ``t``, between ``groups - 1`` ends; and a function of it."""
    b = GraphBuilder("grouped")
    x, w = b.input("x", TensorType(dtype, (rows, DEPTH))), b.input("w", TensorType(dtype, (groups, DEPTH, COLUMNS)))
    ends = b.input("ends", TensorType(counted, (groups - 1,)))
    axes = (("t", rows), ("k", DEPTH), ("n", COLUMNS))
    t, k, n = (axis(*each) for each in axes)
    weights = b.gather(w, [b.segment(ends, rows)], axes, [[IDX[1], k, n], [t]])
    y = b.contract(axes, [x, weights], [[t, k], [t, k, n]], ["t", "n"], acc=F32, dtype=dtype)
    return b.finish([b.pointwise("tanh", y)])


def lowered(graph: Graph, target: Target) -> Graph:
    return Manager().run(graph, PIPELINE, PassContext(target))[-1].graph


def operands(graph: Graph, rows: int, ends: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(ends) + rows)
    x = torch.randn(rows, DEPTH, generator=generator)
    w = torch.randn(len(ends) + 1, DEPTH, COLUMNS, generator=generator)
    dtype = graph.inputs[0].dtype.torch
    return [x.to(dtype), (w / 4).to(dtype), torch.tensor(ends, dtype=graph.inputs[2].dtype.torch)]


@st.composite
def groupings(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A number of rows, and ends of segments among them: empty ones, single rows, rows behind the last end."""
    rows = draw(st.integers(2, 90))
    return rows, sorted(draw(st.lists(st.integers(0, rows), min_size=1, max_size=6)))


@settings(max_examples=60)
@given(groupings(), st.sampled_from([BF16, F16, F32]), st.sampled_from([I32, I64]), st.sampled_from([CPU, H100]))
def test_any_groups(grouping: tuple[int, list[int]], dtype: DType, counted: DType, target: Target) -> None:
    rows, ends = grouping
    graph = product(len(ends) + 1, rows, dtype, counted)
    made = lowered(graph, target)
    assert "ragged" in roles(made.ops[-1])
    inputs = operands(graph, rows, ends)
    runs = ({"lowered": True}, {}, {"promote": True})
    got, want, exact = (evaluate(g, inputs, **run) for g, run in zip((made, graph, graph), runs, strict=True))
    (accuracy,) = promised(got, want, exact)
    assert accuracy.kept, accuracy


def roles(op: Op) -> set[str]:
    return {role for _, role, _ in op.attrs["roles"]}


# Tiles of rows, columns and depth, and options, on an H100 with few processors.
SCHEDULES: tuple[tuple[tuple[int, int, int], dict[str, Any]], ...] = (
    ((16, 16, 16), {}),
    ((32, 16, 16), {"descriptors": True}),
    ((16, 32, 16), {"descriptors": True, "persistent": True}),
    ((64, 16, 16), {"descriptors": True, "persistent": True, "epilogue": 2}),
    ((16, 32, 16), {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "tail": 2}),
    ((16, 64, 32), {"group": None}),
)


@pytest.mark.parametrize("number", range(len(SCHEDULES)))
@settings(max_examples=12)
@given(grouping=groupings())
def test_any_groups_in_any_schedule(number: int, grouping: tuple[int, list[int]]) -> None:
    (rows, ends), (tiles, options) = grouping, SCHEDULES[number]
    few = replace(H100, sm_count=4)
    graph = product(len(ends) + 1, rows, BF16)
    op = lowered(graph, few).ops[-1]
    chosen = Schedule.from_attrs(op.attrs)
    tiled = dict(zip((a.name for a in chosen.axes if a.tile > 1), tiles, strict=True))
    op = Lower().lower(rescheduled(op, replace(with_tiles(chosen, **tiled), **options)))
    kernel = emit(op.regions[1], few, op.regions[0])
    plan = make_plan(Graph("grouped", op.inputs, (op,), op.outputs), {op: kernel})
    inputs = operands(graph, rows, ends)
    got = Program(plan, [CpuLauncher(kernel)], torch.device("cpu"))(inputs)
    (accuracy,) = promised(got, evaluate(graph, inputs), evaluate(graph, inputs, promote=True))
    assert accuracy.kept, accuracy


@settings(max_examples=12)
@given(grouping=groupings())
def test_programs_that_take_tile_after_tile_count_those_with_rows(grouping: tuple[int, list[int]]) -> None:
    """Each takes the same steps for all of its tiles, so that these and their steps can be one loop."""
    rows, ends = grouping
    graph = product(len(ends) + 1, rows, BF16)
    op = lowered(graph, replace(H100, sm_count=4)).ops[-1]
    persistent = replace(Schedule.from_attrs(op.attrs), descriptors=True, persistent=True, flatten=True)
    op = Lower().lower(rescheduled(op, persistent))
    counted = len(ends) > 1
    (steps,) = (each for each in op.regions[1].ops if each.name == "loop")
    assert any(each.name == "count" for each in op.regions[1].ops) == counted
    assert steps.attrs["ranges"] == (0 if counted else 1)
    inputs = operands(graph, rows, ends)
    got = evaluate(Graph("grouped", op.inputs, (op,), op.outputs), inputs, lowered=True)
    (accuracy,) = promised(got, evaluate(graph, inputs), evaluate(graph, inputs, promote=True))
    assert accuracy.kept, accuracy


def gated(groups: int, rows: int) -> Graph:
    """Of the products with two matrices that each group has in one buffer, the one times the other."""
    b = GraphBuilder("gated")
    x, w = b.input("x", TensorType(BF16, (rows, WIDTH))), b.input("w", TensorType(BF16, (groups, 2 * COLUMNS, WIDTH)))
    ends = b.input("ends", TensorType(I32, (groups - 1,)))
    axes = (("t", rows), ("k", WIDTH), ("n", 2 * COLUMNS))
    t, k, n = (axis(*each) for each in axes)
    weights = b.gather(w, [b.segment(ends, rows)], axes, [[IDX[1], n, k], [t]])
    y = b.contract(axes, [x, weights], [[t, k], [t, k, n]], ["t", "n"], acc=F32, dtype=F32)
    first, second = (b.slice(y, 1, start, COLUMNS) for start in (0, COLUMNS))
    return b.finish([b.cast(b.pointwise("mul", b.pointwise("tanh", second), first), BF16)])


@pytest.mark.parametrize("options", [{}, {"persistent": True}, {"persistent": True, "tail": 2}], ids=str)
@settings(max_examples=8)
@given(grouping=groupings())
def test_two_products_of_any_groups_are_one(options: dict[str, Any], grouping: tuple[int, list[int]]) -> None:
    rows, ends = grouping
    few, graph = replace(H100, sm_count=4), gated(len(ends) + 1, rows)
    op = lowered(graph, few).ops[-1]
    chosen = replace(Schedule.from_attrs(op.attrs), descriptors=True, joined=True, **options)
    op = Lower().lower(rescheduled(op, chosen))
    kernel = emit(op.regions[1], few, op.regions[0])
    loops = 2 if "for piece in " in kernel.source else 1
    assert kernel.source.count("tl.dot(") == loops and "Products joined: of two parts of w." in kernel.notes
    plan = make_plan(Graph("grouped", op.inputs, (op,), op.outputs), {op: kernel})
    x, w = torch.randn(rows, WIDTH), torch.randn(len(ends) + 1, 2 * COLUMNS, WIDTH) / 4
    inputs = [x.bfloat16(), w.bfloat16(), torch.tensor(ends, dtype=torch.int32)]
    got = Program(plan, [CpuLauncher(kernel)], torch.device("cpu"))(inputs)
    (accuracy,) = promised(got, evaluate(graph, inputs), evaluate(graph, inputs, promote=True))
    assert accuracy.kept, accuracy


@pytest.mark.parametrize("long", [1, 16, 18])
def test_fewer_rows_than_segments_have_a_program_each(long: int) -> None:
    """Of 40 segments, one has ``long`` rows and the others one or none."""
    ends = [2, 3, 3, 3 + long, *(min(3 + long + n // 2, 22) for n in range(34)), 22]
    graph = product(len(ends) + 1, 24, BF16)
    op = lowered(graph, H100).ops[-1]
    schedule = Schedule.from_attrs(op.attrs)
    columns = next(a for a in schedule.axes if a.role == "grid")
    kernel = emit(op.regions[1], H100, op.regions[0])
    assert kernel.programs({}) == (24 * -(-COLUMNS // columns.tile),)
    inputs = operands(graph, 24, ends)
    got = evaluate(lowered(graph, H100), inputs, lowered=True)
    (accuracy,) = promised(got, evaluate(graph, inputs), evaluate(graph, inputs, promote=True))
    assert accuracy.kept, accuracy


class Experts(nn.Module):
    """Rows gathered, SwiGLU by the matrices of their groups, put back by weights."""

    def __init__(self, groups: int, width: int, inner: int, device: str = "cpu") -> None:
        super().__init__()
        made = {"dtype": torch.bfloat16, "device": device}
        self.up = nn.Parameter(torch.randn(groups, 2 * inner, width, **made) * width**-0.5)
        self.down = nn.Parameter(torch.randn(groups, width, inner, **made) * inner**-0.5)

    def forward(self, x: Tensor, rows: Tensor, ends: Tensor, weights: Tensor) -> Tensor:
        gate, up = torch._grouped_mm(x[rows], self.up.transpose(-2, -1), ends).chunk(2, -1)
        hidden = nn.functional.silu(gate) * up
        return torch._grouped_mm(hidden, self.down.transpose(-2, -1), ends) * weights[:, None]


def test_many_rows_are_gathered_first_and_activated_by_their_product() -> None:
    model = Experts(64, 2048, 1024, "meta")
    inputs = (meta(8192, 2048), meta(65536, dtype=torch.int64), meta(64, dtype=torch.int32), meta(65536))
    gathered, *products = (op for op in compiled(model, inputs, "h100").graph.ops if op.name == "region")
    assert [op.output.shape for op in (gathered, *products)] == [(65536, 2048), (65536, 1024), (65536, 2048)]
    for op in products:
        kernel = emit(op.regions[1], H100)
        binary = compile_kernel(kernel, H100.arch)
        assert "ragged" in roles(op) and "ttng.warp_group_dot" in binary.ttgir
        assert binary.resources.spill_bytes == 0 and binary.shared_bytes <= H100.shared_memory
        assert kernel.programs({})[0] <= (65536 // 128 + 64) * 16
    gate_and_up = compile_kernel(emit(products[0].regions[1], H100), H100.arch).ttgir
    assert "instrShape = [16, 256, 16]" in gate_and_up and gate_and_up.count("ttng.warp_group_dot ") == 1


@pytest.mark.parametrize("tokens", [1024, 2048, 8192])
def test_many_tiles_are_counted_and_taken_one_after_another(tokens: int) -> None:
    model = Experts(64, 2048, 1024, "meta")
    inputs = (meta(tokens, 2048), meta(8 * tokens, dtype=torch.int64), meta(64, dtype=torch.int32), meta(8 * tokens))
    for op in (op for op in compiled(model, inputs, "h200").graph.ops if "ragged" in roles(op)):
        schedule, kernel = Schedule.from_attrs(op.attrs), emit(op.regions[1], H200)
        assert schedule.persistent and schedule.flatten and schedule.num_stages == 4
        assert any(each.name == "count" for each in op.regions[1].ops)
        assert kernel.programs({}) == (H200.sm_count,)
        assert compile_kernel(kernel, H200.arch).resources.spill_bytes == 0


@pytest.mark.parametrize(("width", "tokens", "tile"), [(2048, 8192, 256), (4096, 4096, 512), (2048, 512, 1024)])
def test_columns_of_rows_that_are_gathered_often_stay_in_the_cache(width: int, tokens: int, tile: int) -> None:
    """All rows' first columns come before the next ones, unless the cache holds all of them."""

    def gathered(x: Tensor, order: Tensor) -> Tensor:
        return x[order // 8]

    (op,) = regions(gathered, (meta(tokens, width), meta(8 * tokens, dtype=torch.int64)), "h100")
    schedule = Schedule.from_attrs(op.attrs)
    rows, columns = (axis.name for axis in schedule.axes)
    assert schedule.role(columns).tile == tile
    assert schedule.grid == ((columns, rows) if tile == 1024 else (rows, columns))


def test_few_rows_are_gathered_by_their_product_and_take_small_tiles() -> None:
    model = Experts(64, 2048, 1024, "meta")
    inputs = (meta(16, 2048), meta(128, dtype=torch.int64), meta(64, dtype=torch.int32), meta(128))
    ops = [op for op in compiled(model, inputs, "h100").graph.ops if op.name == "region"]
    assert len(ops) == 2
    for op in ops:
        schedule = Schedule.from_attrs(op.attrs)
        assert next(a.tile for a in schedule.axes if a.role == "ragged") == 16


@pytest.mark.parametrize("dynamic", [False, True])
def test_experts_of_any_number_of_rows(dynamic: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Experts(5, 32, 16)
    fast = rooftile.compile(model, dynamic=dynamic)
    with torch.no_grad(), collecting() as compilations:
        for count in (24, 41, 8) if dynamic else (24,):
            rows = torch.randint(0, 12, (count,))
            x, weights = torch.randn(12, 32, dtype=torch.bfloat16), torch.rand(count, dtype=torch.bfloat16)
            for ends in ([3, 3, 7, 7], [0, 0, 0, 0], [1, 2, 3, 4]):
                given_ = x, rows, torch.tensor([*ends, count], dtype=torch.int32), weights
                torch.testing.assert_close(fast(*given_), model(*given_), rtol=0.02, atol=0.02)
    assert len(compilations) == 1
    assert not [op for op in compilations[0].graph.ops if op.name == "extern"]


def test_numbers_of_segments_that_no_product_reads_are_counted() -> None:
    b = GraphBuilder("numbers")
    ends = b.input("ends", TensorType(I32, (4,)))
    graph = b.finish([b.segment(ends, 12)])
    made = lowered(graph, CPU)
    inputs = [torch.tensor([2, 2, 5, 11], dtype=torch.int32)]
    (got,) = evaluate(made, inputs, lowered=True)
    assert got.tolist() == [0, 0, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]


@pytest.mark.parametrize("ends", [[3, 3, 20], [0, 0, 9], [0, 0, 0], [5, 6, 7]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_behind_the_last_end_are_zero_where_a_library_says_so(ends: list[int], dtype: torch.dtype) -> None:
    pytest.importorskip("transformers.integrations.moe")
    torch._dynamo.reset()

    def grouped(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
        result: Tensor = torch.ops.transformers.grouped_mm_fallback(x, w, ends)
        return result

    x, w = torch.randn(20, 16, dtype=dtype), torch.randn(3, 16, 24, dtype=dtype)
    given_ = x, w, torch.tensor(ends, dtype=torch.int32)
    with torch.no_grad(), collecting() as compilations:
        got = rooftile.compile(grouped)(*given_)
    torch.testing.assert_close(got, grouped(*given_), rtol=1e-2 if dtype is torch.float16 else 1e-5, atol=1e-2)
    assert not [op for op in compilations[0].graph.ops if op.name == "extern"]
    assert got[ends[-1] :].eq(0).all()


def test_matrices_count_once_however_many_rows_read_them() -> None:
    graph = product(4, 100, BF16)
    x, w, ends, y = 100 * DEPTH * 2, 4 * DEPTH * COLUMNS * 2, 3 * 4, 100 * COLUMNS * 2
    assert eager_bytes(graph) == x + w + 2 * y + y  # the product; then tanh reads and writes
    (body,) = (op.regions[0] for op in lowered(graph, H100).ops)
    assert kernel_work(body).bytes == x + w + ends + y
    assert 0 <= x + w + ends + y - cost(region_access(body)[1], H100).bytes <= ends


def test_rows_that_are_gathered_cost_no_more_than_what_they_hold() -> None:
    model = Experts(64, 2048, 1024, "meta")
    inputs = (meta(8192, 2048), meta(65536, dtype=torch.int64), meta(64, dtype=torch.int32), meta(65536))
    for op in (op for op in compiled(model, inputs, "h100").graph.ops if "ragged" in roles(op)):
        price = cost(region_access(op.regions[0])[1], H100)
        assert price.scalar_flops / H100.scalar_flops < 0.25 * price.seconds


def test_one_token_s_experts_are_no_parts() -> None:
    """Their matrices, read at the segment, are what is loaded ahead: enough is on its way as it is."""
    model = Experts(64, 2048, 1024, "meta")
    inputs = (meta(1, 2048), meta(8, dtype=torch.int64), meta(64, dtype=torch.int32), meta(8))
    assert len([op for op in compiled(model, inputs, "h100").graph.ops if op.name == "region"]) == 2
