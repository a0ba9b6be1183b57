"""The pass ``reschedule``: another schedule, another kernel, the same answer."""

from __future__ import annotations

from dataclasses import replace

import torch

from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.reschedule import Better, Reschedule
from rooftile.passes.schedules.override import with_tiles
from rooftile.target import CPU
from tests.regions import compiled, matmul


def test_another_schedule_computes_the_same() -> None:
    x, w = torch.randn(70, 40), torch.randn(40, 50)
    graph = compiled(matmul, (x, w)).graph
    (op,) = graph.ops
    schedule = with_tiles(Schedule.from_attrs(op.attrs), **{a.name: 16 for a in Schedule.from_attrs(op.attrs).axes})
    context = PassContext(CPU)
    changed = Reschedule({op: Better(schedule, "1.0 us, the first choice 2.0 us")}).run(graph, context)
    verify(changed)
    assert Schedule.from_attrs(changed.ops[0].attrs) == schedule
    torch.testing.assert_close(evaluate(changed, [x, w], lowered=True)[0], matmul(x, w), rtol=1e-5, atol=1e-5)
    assert [(e.decision, e.reason) for e in context.ledger] == [("rescheduled", "1.0 us, the first choice 2.0 us")]


def test_what_is_the_same_stays_the_same_object() -> None:
    graph = compiled(matmul, (torch.randn(8, 8), torch.randn(8, 8))).graph
    (op,) = graph.ops
    same = replace(Schedule.from_attrs(op.attrs))
    assert Reschedule({op: Better(same, "")}).run(graph, PassContext(CPU)) is graph
    assert Reschedule().run(graph, PassContext(CPU)) is graph
