"""Random graphs, each compiled for the CPU, run, and compared with the evaluator: never wrong, never an internal error.

The promise is relative to eager, and with a handful of elements eager's roundings may cancel by luck; so one rounding
of the narrowest dtype in the graph is allowed on top of it. Integers and conditions must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rooftile.accuracy import promised, truth
from rooftile.driver import build_program
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.passes.base import PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.target import CPU, H100, Target
from tests.strategies import graphs, inputs_for

FEW_ULPS = 2e-6  # fp32: sums in another order, and divisions and roots of the generated code
RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def slack(graph: Graph) -> float:
    """The rounding of the narrowest float in ``graph``."""
    steps = [torch.finfo(v.dtype.torch).eps for v in graph.values() if v.dtype.is_float and v.dtype.bytes < 4]
    return max([*steps, FEW_ULPS])


def assert_kept(graph: Graph, inputs: Sequence[torch.Tensor], ours: Sequence[torch.Tensor]) -> None:
    eager = evaluate(graph, inputs)
    kept = promised(ours, eager, truth(graph, inputs))
    for value, y, e, accuracy in zip(graph.outputs, ours, eager, kept, strict=True):
        assert (y.dtype, y.shape) == (e.dtype, e.shape), f"%{value.name}"
        if value.dtype.is_float:
            assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed + slack(graph), f"%{value.name}"
        else:
            assert torch.equal(y, e), f"%{value.name}"


def sizes_of(graph: Graph, inputs: Sequence[torch.Tensor]) -> dict[str, int]:
    return dict(bind_sizes(graph.inputs, [tuple(x.shape) for x in inputs], None))


@given(graphs(), st.integers(0, 100))
@settings(RELAXED, max_examples=400)
def test_compiled_graphs_keep_the_promise(graph: Graph, seed: int) -> None:
    program = build_program(graph, device=torch.device("cpu"))
    inputs = inputs_for(graph, seed)
    assert_kept(graph, inputs, program(inputs, sizes_of(graph, inputs)))


@given(graphs(), st.integers(0, 100))
@settings(RELAXED, max_examples=30)
def test_a_program_serves_other_sizes(graph: Graph, seed: int) -> None:
    program = build_program(graph, device=torch.device("cpu"))
    for inputs in (inputs_for(graph, seed), inputs_for(graph, seed + 1), inputs_for(graph, seed)):
        assert_kept(graph, inputs, program(inputs, sizes_of(graph, inputs)))


@pytest.mark.parametrize("target", [CPU, H100], ids=lambda target: target.name)
@given(graphs(), st.integers(0, 100))
@settings(RELAXED, max_examples=40)
def test_lowered_kernels_keep_the_promise(target: Target, graph: Graph, seed: int) -> None:
    """The kernels as IR, whose evaluator refuses reads that no guard keeps inside their buffers."""
    lowered = Manager(verify=True).run(graph, PIPELINE, PassContext(target))[-1].graph
    inputs = inputs_for(graph, seed)
    assert_kept(graph, inputs, evaluate(lowered, inputs, lowered=True))
