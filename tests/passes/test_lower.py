"""Kernels as IR: each computes what its body computes, whatever tiles and roles it is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import rooftile
from rooftile.accuracy import promised
from rooftile.checking import reference
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph, Op, freeze_attrs
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.lowering.region import space_of
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.schedules.reduction import split_positions
from rooftile.target import CPU, H100
from tests.blame.plants import Block
from tests.strategies import graphs, inputs_for
from tests.test_random_graphs import assert_kept

# Tokens, their width and the results': at the first of these, rows that products read are normalised in the same sweep.
SHAPES = ((1024, 128, 4096), (512, 64, 4096))

FILES = sorted((Path(__file__).parent.parent / "ir" / "lower").glob("*.ir"))


@pytest.mark.parametrize(("tokens", "width", "results"), SHAPES)
def test_what_a_product_reads_is_loaded_before_it(tokens: int, width: int, results: int) -> None:
    """A tile that a descriptor carries may follow the products, but not those that read it."""
    shapes = ((tokens, width), (tokens, width), (width, results))
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in shapes)
    graph = import_captured(capture_exported(torch.export.export(Block(), inputs))).graph
    Manager(verify=True).run(graph, PIPELINE, PassContext(H100))


class AddedMask(nn.Module):
    """Causal attention with a mask that is added, as older models spell it."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        future = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        mask = torch.zeros((), dtype=q.dtype, device=q.device).masked_fill(future, torch.finfo(q.dtype).min)
        return (q @ k.mT * 0.125 + mask).softmax(-1) @ v


def test_where_a_mask_adds_nothing_the_maximum_is_that_of_the_products() -> None:
    """Before the scale, which is then part of an instruction that subtracts the maximum."""
    q = torch.empty(16, 512, 64, dtype=torch.bfloat16, device="meta")
    graph = import_captured(capture_exported(torch.export.export(AddedMask(), (q, q, q)))).graph
    (region,) = Manager(verify=True).run(graph, PIPELINE, PassContext(H100))[-1].graph.ops
    loops = {op.attrs["phase"]: op.regions[0] for op in region.regions[1].ops if op.name == "loop"}
    of = {phase: next(op for op in body.ops if op.attrs.get("fn") == "max") for phase, body in loops.items()}
    makers = {phase: body.producers()[of[phase].inputs[0]] for phase, body in loops.items()}
    assert makers["bare"].name == "dot" and makers["masked"].attrs["fn"] == "add"


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_masks_that_are_added(scale: float) -> None:
    q, k, v = (torch.randn(2, 48, 64, dtype=torch.bfloat16) for _ in range(3))
    exact = reference(AddedMask())(q * scale, k, v)
    (accuracy,) = promised([rooftile.compile(AddedMask())(q * scale, k, v)], [AddedMask()(q * scale, k, v)], [exact])
    assert accuracy.kept


class Gated(nn.Module):
    """One row times two matrices."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(x @ gate.T) * (x @ up.T)


def test_all_loads_of_a_step_are_under_way_before_one_rows_products_are_summed() -> None:
    shapes = ((1, 8192), (4096, 8192), (4096, 8192))
    inputs = tuple(torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in shapes)
    graph = import_captured(capture_exported(torch.export.export(Gated(), inputs))).graph
    (region,) = Manager(verify=True).run(graph, PIPELINE, PassContext(H100))[-1].graph.ops
    (loop,) = (op for op in region.regions[1].ops if op.name == "loop")
    assert [op.name for op in loop.regions[0].ops][:4] == ["load", "load", "load", "cast"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernels_of_the_golden_files(path: Path) -> None:
    before, after = (parse_graph(text) for text in path.read_text().split("---\n"))
    for seed in range(3):
        inputs = inputs_for(before, seed)
        assert_kept(before, inputs, evaluate(after, inputs, lowered=True))


@given(st.data(), graphs(), st.integers(0, 100))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_tiles_compute_the_same(data: Any, graph: Graph, seed: int) -> None:
    context = PassContext(CPU)
    tiled = Manager().run(graph, PIPELINE[:-1], context)[-1].graph
    other = replace(tiled, ops=tuple(with_other_schedule(op, data.draw) for op in tiled.ops))
    lowered = Lower().run(other, context)
    verify(lowered)
    inputs = inputs_for(graph, seed)
    assert_kept(graph, inputs, evaluate(lowered, inputs, lowered=True))


def with_other_schedule(op: Op, draw: Any) -> Op:
    """The region op with smaller tiles, and perhaps an axis swept that was held whole."""
    schedule = Schedule.from_attrs(op.attrs)
    sweepable = _sweepable(op.regions[0], schedule)
    swept = draw(st.sampled_from([None, *sweepable])) if sweepable else None
    axes = tuple(_smaller(a, "loop" if a.name == swept else a.role, draw) for a in schedule.axes)
    return replace(op, attrs=freeze_attrs({**op.attrs, **replace(schedule, axes=axes).attrs()}))


def _smaller(axis: AxisRole, role: Any, draw: Any) -> AxisRole:
    if role in ("parts", "whole"):
        return axis
    return replace(axis, role=role, tile=draw(st.sampled_from([t for t in (1, 2, 4, 8, axis.tile) if t <= axis.tile])))


def _sweepable(body: Graph, schedule: Schedule) -> list[str]:
    """The whole axes that may be loops: no position is wanted along them, and no reduction runs over two loops."""
    access = compose(body, space_of(schedule))
    if contractions(access):
        return []
    bound = [set(access.nodes[r].bound) for r in access.reductions()]
    loops = {a.name for a in schedule.axes if a.role == "loop"}
    held = {a for _, read in split_positions(access) for a in access.nodes[read].bound}
    whole = [a.name for a in schedule.axes if a.role == "whole" and a.name not in held]
    return [a for a in whole if all(len(b & (loops | {a})) < 2 for b in bound)]
