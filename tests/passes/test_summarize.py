"""Masks that are data: what is told of them before a sweep, against brute force, and what the sweep makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rooftile
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import B1, BF16, F32, I64, DType
from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.ir.steps import LoopSteps, loop_steps
from rooftile.ir.verifier import verify
from rooftile.ir.visits import ENDS
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.reschedule import Better, Reschedule
from rooftile.passes.schedules.override import with_tiles
from rooftile.target import H100
from tests.passes.test_masks import lowered

BATCH, HEADS, SIZE = 2, 2, 16
DTYPES: dict[torch.dtype, DType] = {torch.float32: F32, torch.bfloat16: BF16}
LOWEST = torch.finfo(torch.float32).min

Seen = Callable[[GraphBuilder, tuple[int, ...]], Value]


def scores_of(b: GraphBuilder, rows: int, columns: int) -> tuple[Value, Value]:
    """Scores, and values to be mixed by them."""
    q = b.input("q", TensorType(F32, (BATCH, HEADS, rows, SIZE)))
    k, v = (b.input(name, TensorType(F32, (BATCH, HEADS, columns, SIZE))) for name in ("k", "v"))
    return b.einsum("bhid,bhjd->bhij", q, k), v


def mixed(b: GraphBuilder, scores: Value, v: Value) -> Graph:
    p = b.pointwise("exp", b.pointwise("sub", scores, b.reduce("max", scores, [3], keepdim=True)))
    p = b.pointwise("div", p, b.reduce("sum", p, [3], keepdim=True))
    return b.finish([b.einsum("bhij,bhje->bhie", p, v)])


def masked(seen: Seen, fill: float, rows: int, columns: int, *, causal: bool = False) -> Graph:
    """Attention under the condition that ``seen`` builds, with scores that are ``fill`` elsewhere."""
    b = GraphBuilder()
    scores, v = scores_of(b, rows, columns)
    shape = (BATCH, 1, rows, columns)
    keep = b.broadcast(seen(b, shape), shape)
    if causal:
        i, j = (b.op("iota", (), {"size": n, "dtype": I64}) for n in (rows, columns))
        i, j = b.expand(i, shape, (2,)), b.expand(j, shape, (3,))
        keep = b.pointwise("and", keep, b.pointwise("le", j, i))
    fills = b.broadcast(b.constant(fill, F32), scores.shape)
    return mixed(b, b.pointwise("where", b.broadcast(keep, scores.shape), scores, fills), v)


def documents(b: GraphBuilder, shape: tuple[int, ...]) -> Value:
    d = b.input("document", TensorType(I64, (BATCH, shape[2])))
    return b.pointwise("eq", b.expand(d, shape, (0, 2)), b.expand(d, shape, (0, 3)))


def later_documents(b: GraphBuilder, shape: tuple[int, ...]) -> Value:
    d = b.input("document", TensorType(I64, (BATCH, shape[2])))
    return b.pointwise("lt", b.expand(d, shape, (0, 3)), b.expand(d, shape, (0, 2)))


def given_mask(b: GraphBuilder, shape: tuple[int, ...]) -> Value:
    return b.input("mask", TensorType(B1, shape))


def given_padding(b: GraphBuilder, shape: tuple[int, ...]) -> Value:
    return b.expand(b.input("mask", TensorType(B1, (BATCH, shape[3]))), shape, (0, 3))


def biased(rows: int, columns: int, dtype: DType = F32) -> Graph:
    """Attention with a mask that is added to the scores."""
    b = GraphBuilder()
    scores, v = scores_of(b, rows, columns)
    bias = b.cast(b.input("bias", TensorType(dtype, (BATCH, 1, rows, columns))), F32)
    return mixed(b, b.pointwise("add", scores, b.broadcast(bias, scores.shape)), v)


def of_ones(rows: int, columns: int) -> Graph:
    """Attention with the scores' fill computed from a mask of ones and zeros, as BERT's is."""
    b = GraphBuilder()
    scores, v = scores_of(b, rows, columns)
    ones = b.input("mask", TensorType(I64, (BATCH, columns)))
    bias = b.pointwise("sub", b.constant(1.0, F32), b.cast(ones, F32))
    bias = b.expand(b.pointwise("mul", bias, b.constant(LOWEST, F32)), scores.shape, (0, 3))
    return mixed(b, b.pointwise("add", scores, bias), v)


def qkv(rows: int, columns: int) -> list[Tensor]:
    return [torch.randn(BATCH, HEADS, n, SIZE) for n in (rows, columns, columns)]


@cache
def masked_and_lowered(
    seen: Seen, fill: float, rows: int, columns: int, causal: bool, tile: int
) -> tuple[Graph, Graph]:
    graph = masked(seen, fill, rows, columns, causal=causal)
    return graph, lowered(graph, {rows: tile, columns: tile})


def assert_same(graph: Graph, tile: int, inputs: Sequence[Tensor], ours: Graph | None = None) -> Graph:
    """The lowered graph, after a look at its answer."""
    extents = [int(str(graph.inputs[n].shape[2])) for n in (0, 1)]
    ours = ours or lowered(graph, dict.fromkeys(extents, tile))
    answer, wanted = evaluate(ours, inputs, lowered=True)[0], evaluate(graph, inputs)[0]
    torch.testing.assert_close(answer, wanted, equal_nan=True, atol=1e-4, rtol=1e-4)
    return ours


def attention_of(graph: Graph) -> Op:
    (op,) = (op for op in graph.ops if "visits" in op.attrs)
    return op


def told(graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, LoopSteps]:
    """What the kernel is told, and the steps that it visits by that."""
    op = attention_of(graph)
    (visits,) = evaluate(replace(graph, outputs=(op.inputs[-1],)), inputs, lowered=True)
    (steps,) = (s for s in loop_steps(op.regions[1], {}, visits) if len(s.phases) > 1 or s.visited != s.total)
    return visits, steps


def by_tiles(seen: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """In which tiles of the last two dimensions something holds, and in which everything does and none is cut off."""
    rows, columns = (-(-n // tile) for n in seen.shape[-2:])
    some, whole = (torch.zeros(*seen.shape[:-2], rows, columns, dtype=torch.bool) for _ in range(2))
    for r in range(rows):
        for c in range(columns):
            part = seen[..., r * tile : (r + 1) * tile, c * tile : (c + 1) * tile]
            some[..., r, c] = part.any(-1).any(-1)
            whole[..., r, c] = part.all(-1).all(-1) & (part.shape[-1] == tile)
    return some, whole


def numbered(cuts: Sequence[int], length: int) -> Tensor:
    return torch.searchsorted(torch.tensor(sorted(cuts)), torch.arange(length), right=True)


DOCUMENTS = st.lists(st.integers(0, 45), max_size=5)


@settings(max_examples=12)
@given(st.tuples(DOCUMENTS, DOCUMENTS), st.booleans(), st.sampled_from([(8, 40), (8, 45), (16, 45)]))
def test_documents_in_order_cost_the_steps_that_they_fill(
    cuts: tuple[list[int], list[int]], causal: bool, sizes: tuple[int, int]
) -> None:
    tile, length = sizes
    graph, ours = masked_and_lowered(documents, -math.inf, length, length, causal, tile)
    document = torch.stack([numbered(each, length) for each in cuts])
    inputs = [*qkv(length, length), document]
    _, steps = told(assert_same(graph, tile, inputs, ours), inputs)
    seen = document[:, :, None] == document[:, None, :]
    seen = seen & torch.ones(length, length, dtype=torch.bool).tril() if causal else seen
    assert steps.visited == int(by_tiles(seen, tile)[0].sum()) * HEADS
    assert steps.total == BATCH * HEADS * (-(-length // tile)) ** 2


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([-math.inf, LOWEST, -1e4]), st.sampled_from([documents, later_documents]))
def test_documents_in_any_order(seed: int, fill: float, seen: Seen) -> None:
    """Rows with nothing to attend to (the first document's, where only earlier ones are seen) are as in eager."""
    graph, ours = masked_and_lowered(seen, fill, 37, 37, False, 8)
    document = torch.randint(0, 5, (BATCH, 37), generator=torch.Generator().manual_seed(seed))
    assert_same(graph, 8, [*qkv(37, 37), document], ours)


def blocks(seed: int, rows: int, columns: int, share: float) -> Tensor:
    """A mask of blocks of eight rows and eight columns."""
    generator = torch.Generator().manual_seed(seed)
    of_blocks = torch.rand(BATCH, 1, -(-rows // 8), -(-columns // 8), generator=generator) < share
    whole = of_blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :rows, :columns]
    return whole.contiguous()


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([(40, 56), (37, 53)]), st.booleans())
def test_blocks_that_are_empty_are_left_out(seed: int, share: float, shape: tuple[int, int], speckled: bool) -> None:
    """-inf gives NaN where a row has nothing to attend to."""
    rows, columns = shape
    mask = blocks(seed, rows, columns, share)
    mask &= torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.9 if speckled else mask
    inputs = [*qkv(rows, columns), mask]
    graph, ours = masked_and_lowered(given_mask, -math.inf, rows, columns, False, 8)
    visits, steps = told(assert_same(graph, 8, inputs, ours), inputs)
    some, whole = by_tiles(mask[:, 0], 8)
    assert steps.visited == int(some.sum()) * HEADS
    assert torch.equal(visits[..., 0], whole.sum(-1).int()) and torch.equal(visits[..., 1], some.sum(-1).int())
    for row, bare, any_ in zip(visits.flatten(0, 1), whole.flatten(0, 1), some.flatten(0, 1), strict=True):
        places = row[ENDS:-1].tolist()
        numbers = torch.arange(len(places))
        assert places == [*numbers[bare].tolist(), *numbers[any_ & ~bare].tolist(), *numbers[~any_].tolist()]


@pytest.mark.parametrize("fill", [-math.inf, LOWEST])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_that_is_added(fill: float, dtype: torch.dtype) -> None:
    """With -inf an empty row is NaN, with the lowest number it is the mean over all keys: those steps are run again."""
    rows, columns = 40, 56
    keep = blocks(3, rows, columns, 0.5)
    keep[0, 0, :8] = False
    keep[1, 0, 3] = False
    bias = torch.zeros(keep.shape).masked_fill(~keep, fill).to(dtype)
    inputs = [*qkv(rows, columns), bias]
    graph = assert_same(biased(rows, columns, DTYPES[dtype]), 8, inputs)
    visits, steps = told(graph, inputs)
    some, whole = by_tiles(keep[:, 0], 8)
    assert steps.phases == ("bare", "masked", "rest")
    assert torch.equal(visits[..., 0], whole.sum(-1).int()) and torch.equal(visits[..., 1], some.sum(-1).int())


def test_a_bias_that_hides_nothing_is_added_in_every_step() -> None:
    inputs = [*qkv(40, 56), torch.randn(BATCH, 1, 40, 56)]
    _, steps = told(assert_same(biased(40, 56), 8, inputs), inputs)
    assert steps.visited == steps.total


@pytest.mark.parametrize("lengths", [(56, 56), (9, 41), (0, 17)])
def test_padding(lengths: tuple[int, int]) -> None:
    """As a condition and as a fill that is computed from ones; a row of the batch may be padding alone."""
    inside = torch.arange(56) < torch.tensor(lengths)[:, None]
    for graph, mask in (
        (masked(given_padding, LOWEST, 40, 56), inside),
        (masked(given_padding, -math.inf, 40, 56), inside),
        (of_ones(40, 56), inside.long()),
    ):
        inputs = [*qkv(40, 56), mask]
        visits, steps = told(assert_same(graph, 8, inputs), inputs)
        tiles = [-(-n // 8) for n in lengths]
        assert visits[..., 1].flatten().tolist() == tiles
        assert steps.visited == sum(tiles) * HEADS * 5


@pytest.mark.parametrize("phases", [1, 2])
def test_steps_are_bare_only_where_phases_are_split(phases: int) -> None:
    """A region of reductions alone has one phase by itself."""
    b = GraphBuilder()
    x, mask = (b.input(name, TensorType(dtype, (40, 56))) for name, dtype in (("x", F32), ("mask", B1)))
    zeros = b.broadcast(b.constant(0.0, F32), x.shape)
    graph = b.finish([b.reduce("sum", b.pointwise("where", mask, x, zeros), [1])])
    inputs = [torch.randint(1, 9, (40, 56)).float(), blocks(1, 40, 56, 0.5)[0, 0]]
    ours = lowered(graph, {40: 8, 56: 8}, phases)
    assert torch.equal(evaluate(ours, inputs, lowered=True)[0], evaluate(graph, inputs)[0])
    _, steps = told(ours, inputs)
    assert steps.phases == (("masked",) if phases == 1 else ("bare", "masked"))


# What is chosen.


class Masked(torch.nn.Module):
    """Attention under a mask that is given, in so many layers."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        for _ in range(self.layers):
            q = ((q @ k.mT / 8).masked_fill(~mask, -math.inf)).softmax(-1) @ v
        return q


class Documents(torch.nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, document: Tensor) -> Tensor:
        apart = document[:, None, :, None] != document[:, None, None, :]
        return ((q @ k.mT / 8).masked_fill(apart, -math.inf)).softmax(-1) @ v


def planned(model: torch.nn.Module, mask: Tensor, length: int = 4096) -> tuple[Graph, PassContext]:
    """What the model becomes on an H100, with 16 heads of ``length`` x 64."""
    from rooftile.frontend.exported import capture_exported
    from rooftile.frontend.importer import import_captured

    inputs = (*(torch.empty(1, 16, length, 64, dtype=torch.bfloat16, device="meta") for _ in range(3)), mask)
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(model, inputs))).graph
    context = PassContext(H100)
    return Manager(verify=True).run(graph, PIPELINE, context)[-1].graph, context


def on_meta(*shape: int, dtype: torch.dtype = torch.bool) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_a_mask_that_heads_share_is_summarised() -> None:
    graph, context = planned(Masked(), on_meta(1, 1, 4096, 4096))
    assert [op.attrs["name"] for op in graph.ops][-2:] == ["visits", "contract_max_sum"]
    (entry,) = context.ledger.of("summarized")
    assert "is data" in entry.reason and entry.bytes is not None and int(str(entry.bytes)) < -(4096**2)


def test_a_mask_of_each_head_is_read_in_the_sweep_alone() -> None:
    graph, context = planned(Masked(), on_meta(1, 16, 4096, 4096))
    assert len(graph.ops) == 1
    assert any("is data" in entry.reason for entry in context.ledger.of("cut"))


def test_layers_share_a_summary() -> None:
    once, twice = (planned(Masked(layers), on_meta(1, 1, 4096, 4096))[0] for layers in (1, 2))
    assert len(twice.ops) == len(once.ops) + 1
    assert len({op.inputs[-1] for op in twice.ops if "visits" in op.attrs}) == 1


@pytest.mark.parametrize("length", [4096, 16384])
def test_the_order_of_steps_is_found_without_going_over_all_pairs_for_each(length: int) -> None:
    graph, _ = planned(Documents(), on_meta(1, length, dtype=torch.int64), length)
    *tellers, sweep = (Schedule.from_attrs(op.attrs) for op in graph.ops)
    assert len(tellers) > 3 and [a.extent for a in sweep.axes if a.role == "loop"] == [length]
    for schedule in tellers:
        assert prod(-(-int(str(a.extent)) // a.tile) for a in schedule.axes if a.role == "loop") <= 8


def test_the_derivation_says_who_tells() -> None:
    _, context = planned(Documents(), on_meta(1, 4096, dtype=torch.int64))
    (step,) = [s for d in context.derivations for s in d.steps if s.rule == "skip"]
    assert "told by %visits for each 64 of i and 64 of j" in step.after.replace("j_1", "j")


def test_another_schedule_gets_another_summary() -> None:
    graph = masked(documents, -math.inf, 64, 64, causal=True)
    inputs = [*qkv(64, 64), numbered([9, 30, 41], 64).repeat(BATCH, 1)]
    before = lowered(graph, {64: 8})
    op = attention_of(before)
    first = Schedule.from_attrs(op.attrs)
    schedule = with_tiles(first, **{a.name: 16 for a in first.axes if a.extent == 64})
    after = Reschedule({op: Better(schedule, "because")}).run(before, PassContext(H100))
    verify(after)
    torch.testing.assert_close(evaluate(after, inputs, lowered=True)[0], evaluate(graph, inputs)[0])
    if any("visits" in each.attrs for each in after.ops):
        assert told(after, inputs)[0].shape[-2] == 4
    assert len(after.ops) <= len(before.ops)


def test_explain_counts_the_steps_that_ran() -> None:
    """Through the kernels as the CPU runs them, 512 rows and 512 keys at a time."""
    torch.manual_seed(0)
    inputs = [torch.randn(1, 4, 1300, 16) for _ in range(3)]
    document = numbered([500, 1100], 1300)[None]
    report = rooftile.explain(Documents(), *inputs, document)
    (loop,) = [loop for kernel in report.kernels for loop in kernel.loops if len(loop.phases) > 1]
    seen = document[:, :, None] == document[:, None, :]
    assert (loop.visited, loop.total) == (int(by_tiles(seen, 512)[0].sum()) * 4, 9 * 4)
    fast = rooftile.compile(Documents())
    torch.testing.assert_close(fast(*inputs, document), Documents()(*inputs, document), atol=1e-4, rtol=1e-4)
