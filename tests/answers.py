"""Comparing a graph with what a pass made of it, by evaluating both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rooftile.accuracy import promised, truth
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate


def assert_same_answer(
    before: Graph,
    after: Graph,
    inputs: Sequence[torch.Tensor],
    bindings: Mapping[str, int] | None = None,
    slack: float = 0.0,
) -> None:
    """The promise, with ``before`` as eager, and ``slack`` added to the error that it allows; integers are equal."""
    eager, ours = (evaluate(graph, inputs, bindings) for graph in (before, after))
    kept = promised(ours, eager, truth(before, inputs, bindings))
    for value, e, y, accuracy in zip(before.outputs, eager, ours, kept, strict=True):
        assert (y.dtype, y.shape) == (e.dtype, e.shape), f"%{value.name}"
        if value.dtype.is_float:
            assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed + slack, f"%{value.name}: {accuracy}"
        else:
            assert torch.equal(y, e), f"%{value.name}"
