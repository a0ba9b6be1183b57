"""Which steps each program of a masked sweep runs, as the report draws them."""

from __future__ import annotations

import pytest
import torch

from rooftile.ir.core import Graph
from rooftile.ir.steps import Visits, loop_visits
from tests.passes.test_masks import (
    Mask,
    attention,
    both,
    causal,
    chunked,
    either,
    late_rows,
    lowered,
    masked_rows,
    opposite,
    padded,
    prefix,
    steps_of,
    window,
)

MASKS = [
    causal(),
    both(causal(), window(10)),
    both(causal(), either(window(6), prefix(3))),
    chunked(12),
    opposite(causal()),
    both(late_rows(20), prefix(30)),
]


def visits_of(graph: Graph, most: int = 1000) -> list[Visits]:
    return [v for op in graph.ops if op.name == "region" for v in loop_visits(op.regions[1], {}, most)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("phases", [1, 2])
def test_the_rows_add_up_to_the_steps_that_are_counted(mask: Mask, phases: int) -> None:
    graph = lowered(masked_rows(mask, 48, 64), {48: 8, 64: 4}, phases)
    (visits,), (steps,) = visits_of(graph), steps_of(graph)
    assert (visits.steps, visits.count, len(visits.rows)) == (16, 6, 6)
    assert sum(stop - first for _, runs in visits.rows for _, first, stop in runs) == steps.visited
    assert [list(firsts.values()) for firsts, _ in visits.rows] == [[8 * n] for n in range(6)]


def test_causal_rows_end_at_the_diagonal() -> None:
    (visits,) = visits_of(lowered(masked_rows(causal(), 48, 64), {48: 8, 64: 4}, 2))
    for number, (_, runs) in enumerate(visits.rows):
        covered = [step for _, first, stop in runs for step in range(first, stop)]
        assert covered == list(range(2 * number + 2))
        assert [phase for phase, *_ in runs] == (["bare", "masked"] if number else ["masked"])


def test_steps_for_rows_with_nothing_else_are_all_the_others() -> None:
    graph = lowered(attention(causal(), torch.finfo(torch.float32).min, 64, 96), {64: 16, 96: 16})
    (visits,) = [v for v in visits_of(graph) if v.steps == 6]
    for _, runs in visits.rows:
        assert sorted(step for _, first, stop in runs for step in range(first, stop)) == list(range(6))
        assert {phase for phase, *_ in runs} >= {"masked", "rest"}


def test_rows_are_sampled_evenly() -> None:
    graph = lowered(masked_rows(causal(), 48, 64), {48: 8, 64: 4})
    (visits,) = visits_of(graph, most=3)
    assert visits.count == 6 and [list(firsts.values()) for firsts, _ in visits.rows] == [[0], [16], [32]]


def test_there_is_no_picture_where_the_data_decide() -> None:
    assert visits_of(lowered(masked_rows(padded(), 48, 64), {48: 8, 64: 4})) == []
