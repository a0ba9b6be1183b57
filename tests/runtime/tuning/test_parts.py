"""Sweeps in parts as candidates: the same results, a place in the lock file, and a reason where one can't be cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rooftile
from rooftile.config import CompileOptions, Config
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.splitting.choice import InParts, in_parts, part_ops
from rooftile.report.explaining import compile_afresh
from rooftile.runtime.build import compile_kernel
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.runtime.tuning.lock import read_lock, update_lock
from rooftile.runtime.tuning.locked import Misfit, choice_of, entry_of
from rooftile.runtime.tuning.search import schedule_text
from rooftile.runtime.tuning.trials import Trial, build
from rooftile.runtime.tuning.unit import Outcome
from rooftile.target import CPU, H100
from tests.regions import attention, matmul, norm, regions

DEVICE = torch.device("cpu")
SEEDED = torch.Generator().manual_seed(0)
PRODUCT = (matmul, tuple(torch.randn(shape, generator=SEEDED) for shape in ((16, 512), (512, 24))))
MASKED = (attention, tuple(torch.randn(2, n, 16, generator=SEEDED) for n in (4, 512, 512)))


@pytest.mark.parametrize(("model", "inputs"), [PRODUCT, MASKED], ids=["product", "attention"])
@pytest.mark.parametrize("count", [2, 4])
def test_parts_give_what_the_whole_gives(model: Callable[..., Any], inputs: Any, count: int) -> None:
    (op,) = regions(model, inputs)
    tensors = example_tensors(op, {}, DEVICE)
    whole, parts = (
        Trial(build((op,), c, EXACT_FP32, CPU, Config.from_env()), tensors, {}, CPU, DEVICE, Config.from_env())
        for c in (Schedule.from_attrs(op.attrs), InParts(count))
    )
    assert len(parts.built.kernels) == 2
    for _ in range(2):  # a trial runs many times
        assert agree(parts.results(), whole.results(), tolerance(op))


def test_the_lock_file_has_the_count_and_it_is_used(tmp_path: Path) -> None:
    model, inputs = PRODUCT
    (op,) = regions(model, inputs)
    lock = tmp_path / "rooftile.lock"
    update_lock(lock, [entry_of(Outcome(op, (op,), {}, InParts(4), 1.0, 2.0), CPU, EXACT_FP32)])
    assert "parts = 4" in lock.read_text() and "axes" not in lock.read_text()
    (entry,) = read_lock(lock)
    assert choice_of(entry, op, CPU) == InParts(4) and schedule_text(InParts(4)) == "in 4 parts, merged"
    options = {"lock": str(lock)}
    ours = rooftile.compile(model, options=options)(*inputs)
    assert agree([ours], [model(*inputs)], tolerance(op))  # the order of the sums is another one
    (found,), _ = compile_afresh(model, inputs, {}, CompileOptions.from_user(None, None, options))
    assert [op.attrs["name"] for op in found.graph.ops] == ["contract_parts", "contract"]


def test_a_row_that_is_held_whole_is_in_no_parts() -> None:
    (op,) = regions(norm, (torch.randn(8, 6),))
    (product,) = regions(*PRODUCT)
    entry = entry_of(Outcome(product, (product,), {}, InParts(4), 1.0, 2.0), CPU, EXACT_FP32)
    assert part_ops(op, 4, CPU, ()) == ()
    with pytest.raises(Misfit, match="in 4 parts, into which the region's can't be cut"):
        choice_of(entry, op, CPU)


def test_counts_are_few_and_their_kernels_fit_an_h100() -> None:
    (op,) = regions(
        torch.matmul, tuple(torch.empty(s, dtype=torch.bfloat16) for s in ((512, 4096), (4096, 4096))), "h100"
    )
    found = in_parts(op, H100)
    assert found and len(found) <= 3 and {each.count for each in found} <= {2, 4, 8, 16, 32}
    built = build((op,), found[0], EXACT_FP32, H100, Config.from_env())
    resources = [compile_kernel(kernel, H100.arch).resources for kernel in built.kernels.values()]
    assert all(r.spill_bytes == 0 and r.shared_bytes <= H100.shared_memory for r in resources)
