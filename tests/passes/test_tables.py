"""Values that the threads of a kernel would compute again for every head are stored, in a table that all read."""

from __future__ import annotations

import torch
from torch import nn

from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph, Op
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.packing import is_packed
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.repeated import repeated
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import region_access
from rooftile.target import H200
from tests.models import RMSNorm

HEADS, SIZE = 16, 128


class Turned(nn.Module):
    """Queries, normed over all heads and rotated by positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.norm = nn.Linear(HEADS * SIZE, HEADS * SIZE, bias=False), RMSNorm(HEADS * SIZE)
        self.register_buffer("frequencies", torch.ones(SIZE // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.norm(self.query(x)).unflatten(-1, (HEADS, SIZE)).transpose(0, 1)
        angles = torch.arange(len(x), device=x.device)[:, None] * self.frequencies.float()
        cos, sin = (torch.cat((t, t), -1).to(x.dtype) for t in (angles.cos(), angles.sin()))
        left, right = heads.chunk(2, -1)
        return heads * cos + torch.cat((-right, left), -1) * sin


def lowered(model: nn.Module, *shape: int) -> Graph:
    model = model.to("meta", torch.bfloat16)
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    graph = import_captured(capture_exported(torch.export.export(model, (x,)))).graph
    return Manager(verify=True).run(graph, PIPELINE, PassContext(H200))[-1].graph


def computes(op: Op, fn: str) -> bool:
    return any(each.attrs.get("fn") == fn for each in op.regions[0].ops)


def test_sines_that_all_heads_read_are_computed_once_for_all() -> None:
    """Once for all calls, since they are made of weights; as wide as they are, not put beside themselves."""
    graph = lowered(Turned(), 2048, HEADS * SIZE)
    tables = [op for op in graph.ops if computes(op, "sin") or computes(op, "cos")]
    assert len(tables) == 2 and all(is_packed(op) for op in tables)
    assert all(v.type.numel == 2048 * SIZE // 2 for op in tables for v in op.outputs)
    (norm,) = (op for op in graph.ops if computes(op, "rsqrt"))
    assert [v.dtype.bytes for v in norm.inputs] == [2] * len(norm.inputs)


class Ranked(nn.Module):
    """How many elements of a row of ``exp(x)`` each is less than: all pairs are looked at."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        return (y[:, None, :] > y[:, :, None]).sum(-1)


def test_threads_compute_what_varies_over_fewer_axes_again() -> None:
    """A head's positions for each head, a row's factor for each of its pieces; of pairs, each thread has many."""
    rotated = next(op for op in lowered(Turned(), 2048, HEADS * SIZE).ops if computes(op, "rsqrt"))
    _, access = region_access(rotated.regions[0])
    extents = {a: likely(e) for a, e in access.axes.items()}
    times = {
        access.nodes[read].op.attrs["fn"]: n  # type: ignore[union-attr]
        for read, n in repeated(access, extents).items()
        if access.nodes[read].op.name == "pointwise"  # type: ignore[union-attr]
    }
    assert times["rsqrt"] == HEADS * SIZE // 2 // 8
    (pairs,) = lowered(Ranked(), 2048, 64).ops
    _, access = region_access(pairs.regions[0])
    assert not any(n > 1 for n in repeated(access, {a: likely(e) for a, e in access.axes.items()}).values())
