"""Passes on random graphs: the same answers, and nothing left to do the second time."""

from __future__ import annotations

import torch
from hypothesis import given, settings

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.verifier import verify
from rooftile.passes.axes import Axes
from rooftile.passes.base import PassContext
from rooftile.passes.canonicalize import Canonicalize
from rooftile.passes.dtypes import Dtypes, is_narrow
from rooftile.target import CPU
from tests.answers import assert_same_answer
from tests.strategies import graphs, inputs_for


def one_region(body: Graph) -> Graph:
    """A graph that runs all of ``body`` as one kernel."""
    builder = GraphBuilder()
    inputs = [builder.input(v.name, v.type) for v in body.inputs]
    return builder.finish(builder.region(body, inputs, {"name": "all"}))


@given(graphs())
@settings(max_examples=60)
def test_canonicalize_keeps_results(graph: Graph) -> None:
    after = Canonicalize().run(graph, PassContext(CPU))
    verify(after)
    assert Canonicalize().run(after, PassContext(CPU)) is after
    inputs = inputs_for(graph)
    for expected, result in zip(evaluate(graph, inputs), evaluate(after, inputs), strict=True):
        torch.testing.assert_close(result, expected, rtol=2e-6, atol=1e-30, equal_nan=True)


@given(graphs())
@settings(max_examples=60)
def test_axes_name_every_dimension_once_per_value(graph: Graph) -> None:
    after = Axes().run(graph, PassContext(CPU))
    verify(after)
    for value in after.values():
        assert value.type.axes is not None
        assert len(set(value.type.axes)) == value.type.rank
    assert Axes().run(after, PassContext(CPU)) is after
    assert print_graph(parse_graph(print_graph(after))) == print_graph(after)


@given(graphs())
@settings(max_examples=60)
def test_dtypes_keep_the_promise(graph: Graph) -> None:
    """Up to one rounding: with so few elements, eager's roundings may cancel by luck."""
    before = one_region(graph)
    after = Dtypes().run(before, PassContext(CPU))
    verify(after)
    narrow = [torch.finfo(v.dtype.torch).eps for v in graph.values() if is_narrow(v.dtype)]
    assert_same_answer(before, after, inputs_for(graph), slack=max(narrow, default=0.0))
    for op in after.ops[0].regions[0].ops:
        if op.name in ("pointwise", "reduce", "scan"):
            assert not any(is_narrow(v.dtype) for v in (*op.inputs, *op.outputs))
