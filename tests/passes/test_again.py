"""Values that several regions read, computed again in each: one launch where there were two, and reasons where not."""

from __future__ import annotations

import torch

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import F32
from rooftile.ir.evaluator import evaluate
from rooftile.passes.base import PassContext
from rooftile.passes.fuse import Fuse
from rooftile.passes.fusion.again import compute_again
from rooftile.passes.fusion.partition import Partition
from rooftile.passes.launches import sharing
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.switches import Switches
from rooftile.target import H200
from tests.answers import assert_same_answer
from tests.regions import compiled, meta, norm

WIDTH = 2048
Tensors = tuple[torch.Tensor, ...]


def normed(x: torch.Tensor, *weights: torch.Tensor) -> Tensors:
    """Products of one norm."""
    normal = norm(x)
    return tuple(normal @ w.T for w in weights)


def weights(*widths: int) -> Tensors:
    return tuple(meta(width, WIDTH) for width in widths)


def normed_row(b: GraphBuilder, rows: int = 1, width: int = WIDTH) -> tuple[Value, Value]:
    """A row over its norm, and what it is divided by."""
    x = b.input("x", TensorType(F32, (rows, width)))
    scale = b.pointwise("rsqrt", b.reduce("sum", b.pointwise("mul", x, x), [1], keepdim=True), name="scale")
    return b.pointwise("mul", x, scale), scale


def products(rows: int = 1, width: int = WIDTH) -> tuple[Graph, Value]:
    """Two products of the same normed rows, and the rows' factors."""
    b = GraphBuilder()
    normal, scale = normed_row(b, rows, width)
    w, u = (b.input(name, TensorType(F32, (width, width))) for name in "wu")
    return b.finish([b.einsum("mk,nk->mn", normal, w), b.einsum("mk,nk->mn", normal, u)]), scale


def test_products_of_one_normed_row_compute_the_norm_themselves_in_one_launch() -> None:
    found = compiled(normed, (meta(1, WIDTH), *weights(WIDTH, 512, 512)), "h200")
    regions = [op for op in found.graph.ops if op.name == "region"]
    assert len(regions) == 3 and len(sharing(regions)) == 1 and all(len(op.outputs) == 1 for op in regions)
    entries = [e for e in found.context.ledger.of("fused") if e.rule == "again"]
    assert entries and all("computed by all 3 kernels that read it" in e.reason for e in entries)


def test_the_norm_of_many_rows_is_stored() -> None:
    found = compiled(normed, (meta(4096, WIDTH), *weights(WIDTH, 512, 512)), "h200")
    assert not [e for e in found.context.ledger.of("fused") if e.rule == "again"]


def test_what_is_computed_again_gives_the_same() -> None:
    graph, _ = products(width=96)
    context = PassContext(H200)
    again = Fuse().run(graph, context)
    assert [e.rule for e in context.ledger.of("fused")].count("again") == 1
    assert_same_answer(graph, again, [torch.randn(v.shape) for v in graph.inputs])  # type: ignore[arg-type]


def test_kernels_that_each_compute_it_give_the_same() -> None:
    graph, _ = products(width=64)
    context = PassContext(H200)
    lowered = Manager().run(graph, PIPELINE, context)[-1].graph
    assert [e.rule for e in context.ledger.of("fused")].count("again") == 1
    inputs = [torch.randn(tuple(int(str(n)) for n in v.shape)) for v in graph.inputs]
    for ours, exact in zip(evaluate(lowered, inputs, lowered=True), evaluate(graph, inputs), strict=True):
        torch.testing.assert_close(ours, exact)


def test_a_value_computed_from_weights_stays_stored() -> None:
    b = GraphBuilder()
    normal, scale = normed_row(b)
    y, z = (b.input(name, TensorType(F32, (WIDTH, 1))) for name in "yz")
    graph = b.finish([b.einsum("mk,kn->mn", normal, y), b.einsum("mk,kn->mn", normal, z)])
    partition = Partition(graph, H200)
    partition.buffers.add(scale)
    partition.packable = {scale}
    compute_again(partition, PassContext(H200))
    assert scale in partition.buffers


def test_readers_that_need_one_another_read_what_is_stored() -> None:
    b = GraphBuilder()
    normal, scale = normed_row(b)
    w, u = (b.input(name, TensorType(F32, (WIDTH, WIDTH))) for name in "wu")
    first = b.einsum("mk,nk->mn", normal, w)
    graph = b.finish([first, b.einsum("mk,nk->mn", b.pointwise("add", normal, first), u)])
    partition = Partition(graph, H200)
    partition.buffers.add(scale)
    partition.buffers -= {op.output for op in graph.ops if op.name == "reduce"}
    compute_again(partition, PassContext(H200))
    assert scale in partition.buffers


def test_it_can_be_switched_off() -> None:
    graph, _ = products()
    for off, count in ((frozenset[str](), 2), (frozenset({"fuse/again"}), 3)):
        context = PassContext(H200, switches=Switches(off=off | {"fuse/joined"}))
        assert len(Manager().run(graph, (Fuse(),), context)[-1].graph.ops) == count
