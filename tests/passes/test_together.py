"""Values that several regions read, kept on chip by one region that gives all that is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import rooftile
from rooftile.accuracy import promised
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import TensorType
from rooftile.ir.dtypes import BF16
from rooftile.passes.base import PassContext
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.fuse import Fuse
from rooftile.passes.manager import Manager
from rooftile.passes.switches import Switches
from rooftile.target import H100
from tests.regions import compiled, meta

LENGTH, WIDTH = 40, 16


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT * q.shape[-1] ** -0.5


def mean_and_sum(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    s = scores(q, k)
    return s.softmax(-1) @ v, s.logsumexp(-1)


def mean_and_more(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    s = scores(q, k)
    return s.logsumexp(-1), s.amax(-1), s.softmax(-1) @ v, s.argmax(-1)


def two_sums(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    s = scores(q, k)
    return (s * s).sum(-1), s.abs().amax(-1)


def two_means(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    s = scores(q, k)
    return s.softmax(-1) @ v, s.sigmoid() @ v


def one_of_the_other(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    s = scores(q, k)
    total = s.logsumexp(-1, keepdim=True)
    return total, (s - total).exp() @ v


def heads(length: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(2, length, WIDTH, generator=generator).to(dtype) for _ in range(3))


@pytest.mark.parametrize("model", [mean_and_sum, mean_and_more, two_sums])
def test_scores_that_several_results_are_computed_from_are_not_stored(model: Callable[..., Sequence[Tensor]]) -> None:
    found = compiled(model, [meta(8, 2048, 64)] * 3, "h100")
    (region,) = (op for op in found.graph.ops if op.name == "region")
    assert set(region.outputs) == set(found.graph.outputs)
    entries = [e for e in found.context.ledger.of("fused") if e.rule == "together"]
    assert entries and all("stays on chip in one kernel of" in e.reason for e in entries)
    assert not found.context.ledger.of("cut")


@pytest.mark.parametrize("length", [LENGTH, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model", [mean_and_sum, two_sums, two_means, one_of_the_other])
def test_results_keep_the_promise(model: Callable[..., Sequence[Tensor]], dtype: torch.dtype, length: int) -> None:
    inputs = heads(length, dtype)
    exact = model(*(x.double() for x in inputs))
    ours = rooftile.compile(model)(*inputs)
    kept = promised(ours, model(*inputs), exact)
    assert all(a.kept for a in kept), [str(a) for a in kept]


def test_products_keep_tiles_of_their_own() -> None:
    """Two sums of products would each want the registers that the other's tile takes."""
    found = compiled(two_means, [meta(8, 2048, 64)] * 3, "h100")
    assert [len(op.outputs) for op in found.graph.ops if op.name == "region"] == [1, 1]


def test_it_can_be_switched_off() -> None:
    b = GraphBuilder()
    q, k, v = (b.input(name, TensorType(BF16, (8, 2048, 64))) for name in "qkv")
    s = b.einsum("hik,hjk->hij", q, k)
    high = b.reduce("max", s, [2], keepdim=True)
    weights = b.pointwise("exp", b.pointwise("sub", s, high))
    graph = b.finish([b.einsum("hij,hjd->hid", weights, v), b.reduce("sum", b.pointwise("mul", s, s), [2])])
    for off, count in ((frozenset[str](), 1), (frozenset({"fuse/together"}), 4)):
        context = PassContext(H100, switches=Switches(off=off))
        assert len(Manager().run(graph, (Canonicalize(), Fuse()), context)[-1].graph.ops) == count
