"""Emitted kernels, run on the CPU, against plain torch and against the evaluator of tile IR."""

from __future__ import annotations

import pytest
import torch

from rooftile.ir.tile_evaluator import run_kernel
from tests.codegen.cases import CASES, assert_close, buffers_for, build, expected, kernel_graph, run


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    inputs, outputs = buffers_for(kernel_graph(name), case)
    run(build(name), [*inputs, *outputs], case.sizes)
    for ours, exact in zip(outputs, expected(case, inputs), strict=True):
        assert_close(ours, exact, case.tolerance)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_tile_evaluator(name: str) -> None:
    torch.manual_seed(1)
    case, graph = CASES[name], kernel_graph(name)
    inputs, outputs = buffers_for(graph, case)
    run(build(name), [*inputs, *outputs], case.sizes)
    evaluated = [torch.empty_like(x) for x in outputs]
    for mine, theirs in zip(outputs, evaluated, strict=True):
        theirs.copy_(mine.clone())
    run_kernel(graph, [*inputs, *evaluated], case.sizes)
    for mine, theirs in zip(outputs, evaluated, strict=True):
        assert_close(mine, theirs, case.tolerance)
