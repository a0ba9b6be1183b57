"""Random graphs, each compiled for the CPU, run, and compared with the evaluator: never wrong, never an internal error.

The promise is relative to eager, and with a handful of elements eager's roundings may cancel by luck; so one rounding
of the narrowest dtype in the graph is allowed on top of it. Integers and conditions must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rooftile.accuracy import promised, truth
from rooftile.codegen.emit import emit
from rooftile.driver import build_program
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Graph, Op
from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.schedules.override import rescheduled
from rooftile.runtime.launch import CpuLauncher
from rooftile.runtime.plan import make_plan
from rooftile.runtime.program import Program
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


OPTIONS = st.fixed_dictionaries(
    {
        "descriptors": st.booleans(),
        "persistent": st.booleans(),
        "flatten": st.booleans(),
        "phases": st.sampled_from([1, 2]),
        "epilogue": st.sampled_from([1, 2, 4]),
        "joined": st.booleans(),
        "tail": st.sampled_from([1, 2, 4]),
    }
)


@given(graphs(), OPTIONS, st.integers(0, 100))
@settings(RELAXED, max_examples=60)
def test_options_of_schedules_keep_the_promise(graph: Graph, options: dict[str, Any], seed: int) -> None:
    """The tiles are a GPU's, and the programs those of its multiprocessors, run on the CPU."""
    scheduled = Manager().run(graph, PIPELINE, PassContext(H100))[-1].graph
    ops = tuple(_with(op, options) if op.name == "region" else op for op in scheduled.ops)
    plan = make_plan(replace(scheduled, ops=ops), {op: emit(op.regions[1], H100) for op in ops if op.name == "region"})
    program = Program(plan, [CpuLauncher(launch.kernel) for launch in plan.launches], torch.device("cpu"))
    inputs = inputs_for(graph, seed)
    assert_kept(graph, inputs, program(inputs, sizes_of(graph, inputs)))


def _with(op: Op, options: dict[str, Any]) -> Op:
    return Lower().lower(rescheduled(op, replace(Schedule.from_attrs(op.attrs), **options)))
