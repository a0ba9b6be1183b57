"""Random graphs through everything that the IR does with a graph."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from rooftile.ir.canonical import canonical_graph, canonical_text, fingerprint
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.verifier import verify
from tests.strategies import check_answers, graphs, inputs_for

RELAXED = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def assert_same(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


@given(graphs())
@RELAXED
def test_text_round_trip(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    again = parse_graph(text)
    verify(again)
    assert print_graph(again) == text
    assert fingerprint(again) == fingerprint(graph)


@given(graphs())
@RELAXED
def test_canonical_form_is_one(graph: Graph) -> None:
    canonical = canonical_graph(graph)
    verify(canonical)
    assert canonical_text(canonical) == canonical_text(graph)


@given(graphs(max_ops=8))
@RELAXED
def test_values_are_tame_and_text_keeps_the_meaning(graph: Graph) -> None:
    inputs = inputs_for(graph, seed=3)
    outputs = evaluate(graph, inputs)
    assert_same(outputs, evaluate(parse_graph(print_graph(graph)), inputs))
    assert_same(outputs, evaluate(canonical_graph(graph), inputs))
    check_answers(graph, inputs, outputs)
    for x, reference in zip(outputs, evaluate(graph, inputs, promote=True), strict=True):
        assert torch.isfinite(reference.double()).all()
        difference = (x.double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-3)
        assert difference < (0.2 if x.dtype.is_floating_point else 1e-9)


def test_wrong_answers_are_noticed() -> None:
    graph = parse_graph("graph g(%x: f32[40]) { %y = pointwise.exp(%x) %z = pointwise.lt(%x, %y) return %y, %z }")
    inputs = inputs_for(graph)
    exp, flag = evaluate(graph, inputs)
    check_answers(graph, inputs, [exp * (1 + 1e-7), flag])
    spoiled = exp.clone()
    spoiled[3] = torch.nan
    for wrong in ([exp * (1 + 1e-5), flag], [spoiled, flag], [exp, ~flag], [exp[:20], flag], [exp.double(), flag]):
        with pytest.raises(AssertionError):
            check_answers(graph, inputs, wrong)
