"""The expression table: every function on every dtype gives what torch gives, to a few units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rooftile.codegen.emit import emit
from rooftile.codegen.expressions import POINTWISE, REDUCTIONS
from rooftile.codegen.expressions import SCANS as SCAN_TEXTS
from rooftile.ir.dtypes import DType
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS
from rooftile.target import CPU
from tests.codegen.cases import run
from tests.codegen.scalar_kernels import KERNELS, assert_agrees


@pytest.mark.parametrize(("make", "dtype"), KERNELS, ids=[f"{m.__name__}-{d}" for m, d in KERNELS])
def test_agrees_with_torch(make: Callable[..., object], dtype: DType) -> None:
    graph, inputs, outputs = make(dtype)
    results = [torch.empty_like(o.exact) for o in outputs]
    run(emit(graph, CPU), [*inputs, *results], {})
    for ours, output in zip(results, outputs, strict=True):
        assert_agrees(ours, output)


def test_tables_have_a_row_for_everything() -> None:
    assert set(POINTWISE) == set(SCALARS)
    assert set(REDUCTIONS) == set(COMBINES)
    assert set(SCAN_TEXTS) == set(SCANS)
