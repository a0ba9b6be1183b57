"""Regions with several results: what others read and a region computes anyway."""

from __future__ import annotations

import torch

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType
from rooftile.ir.dtypes import BF16, F32, I32, DType
from rooftile.passes.base import PassContext
from rooftile.passes.fuse import Fuse, build_regions
from rooftile.passes.fusion.calls import Calls
from rooftile.passes.fusion.joining import join
from rooftile.passes.fusion.partition import Partition
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.target import CPU, H100
from tests.answers import assert_same_answer
from tests.regions import compiled


def softmax_over_queries(length: int, size: int, dtype: DType = F32) -> Graph:
    """Attention whose weights, computed in ``dtype``, sum to one over the queries of each key."""
    b = GraphBuilder()
    q, k, v = (b.input(name, TensorType(BF16, (4, length, size))) for name in "qkv")
    scores = b.cast(b.einsum("hid,hjd->hij", q, k), dtype)
    e = b.pointwise("exp", b.pointwise("sub", scores, b.reduce("max", scores, [1], keepdim=True)))
    weights = b.pointwise("div", e, b.reduce("sum", e, [1], keepdim=True))
    return b.finish([b.einsum("hij,hjd->hid", b.cast(weights, BF16), v)])


def test_a_maximum_and_a_sum_are_results_of_one_sweep() -> None:
    context = PassContext(H100)
    first, second = Fuse().run(softmax_over_queries(4096, 64), context).ops
    assert [v.name for v in first.outputs] == ["max", "sum"]
    assert len(second.outputs) == 1 and {*first.outputs} <= {*second.inputs}
    assert any("%max is stored by the kernel of %sum" in entry.reason for entry in context.ledger.of("fused"))


def test_what_a_reduction_of_the_same_rows_reads_is_a_result_of_it() -> None:
    b = GraphBuilder()
    x, w = b.input("x", TensorType(F32, (4096, 256))), b.input("w", TensorType(F32, (256, 256)))
    mean = b.pointwise("mul", b.reduce("sum", x, [1], keepdim=True), b.constant(1 / 256), name="mean")
    centred = b.pointwise("sub", x, mean)
    scale = b.pointwise("rsqrt", b.reduce("sum", b.pointwise("mul", centred, centred), [1], keepdim=True), name="scale")
    normal = b.pointwise("mul", centred, scale)
    graph = b.finish([b.einsum("mk,nk->mn", normal, w), b.einsum("mk,nk->mn", b.pointwise("abs", normal), w)])
    partition = Partition(graph, H100)
    partition.buffers = {*graph.outputs, mean, scale}
    join(partition, PassContext(H100))
    ((host, taps),) = partition.taps.items()
    assert {mean, scale} <= {host, *taps}


def test_what_is_stored_rounded_is_not_computed_with_unrounded() -> None:
    regions = Fuse().run(softmax_over_queries(4096, 64, BF16), PassContext(H100)).ops
    assert all(len(op.outputs) == 1 for op in regions)


def test_a_region_with_two_results_computes_both() -> None:
    graph = softmax_over_queries(37, 16)
    partition = Partition(graph, CPU)
    producers = {op.attrs.get("fn"): op.output for op in graph.ops if op.name == "reduce"}
    partition.buffers = {*partition.fixed, *producers.values()}
    partition.taps = {producers["sum"]: (producers["max"],)}
    fused = build_regions(partition, Calls.of(graph), PassContext(CPU))
    assert [len(op.outputs) for op in fused.ops] == [2, 1]
    lowered = Manager(verify=True).run(fused, PIPELINE, PassContext(CPU))[-1].graph
    torch.manual_seed(0)
    inputs = [torch.randn(4, 37, 16).bfloat16() for _ in "qkv"]
    assert_same_answer(graph, fused, inputs)
    assert_same_answer(graph, lowered, inputs)


def test_a_reduction_of_a_reduction_gives_both() -> None:
    """The ranks of a row's elements, which others read, and where each of the first ranks stands."""
    b = GraphBuilder()
    x = b.input("x", TensorType(F32, (16, 64)))
    shape = (16, 64, 64)
    mine, others = b.expand(x, shape, (0, 1)), b.expand(x, shape, (0, 2))
    ranks = b.reduce("sum", b.cast(b.pointwise("gt", others, mine), I32), [2])
    numbers, first = (b.op("iota", (), {"size": size, "dtype": I32}) for size in (64, 8))
    shape = (16, 8, 64)
    stands = b.pointwise("eq", b.expand(ranks, shape, (0, 2)), b.expand(first, shape, (1,)))
    found = b.pointwise("where", stands, b.expand(numbers, shape, (2,)), b.constant(0, I32))
    graph = b.finish([b.reduce("sum", found, [2]), b.pointwise("add", ranks, b.constant(1, I32))])
    context = PassContext(H100)
    regions = Fuse().run(graph, context).ops
    assert [v.name for v in regions[0].outputs] == [ranks.name, "sum_1"]
    assert any(
        f"%{ranks.name} is stored by the kernel of %sum_1" in entry.reason for entry in context.ledger.of("fused")
    )
    torch.manual_seed(0)
    assert_same_answer(
        graph, Manager(verify=True).run(graph, PIPELINE, PassContext(CPU))[-1].graph, [torch.rand(16, 64)]
    )


def test_no_two_regions_wait_for_a_result_of_one_another() -> None:
    """Each of two results reads a sum that the other's region might store as well: one of them does, not both."""

    def two(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, total = y * x.cumsum(1), x.sum()
        return total * rows.sum(1, keepdim=True) + x * 0.01, (total + rows).cumsum(0) * y

    inputs = (torch.randn(6, 5, 6), torch.randn(6, 5, 6))
    before, after = (stages := compiled(two, inputs).stages)[0].graph, stages[-1].graph
    assert_same_answer(before, after, inputs)
