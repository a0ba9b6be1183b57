"""Candidates: the model's choice first, all of them within what the target can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.candidates import MOST_ACCUMULATORS_PER_THREAD, candidates
from rooftile.passes.schedules.choice import schedule_region
from rooftile.passes.schedules.estimate import accumulator_elements, seconds, shared_bytes
from rooftile.passes.schedules.override import with_tiles
from rooftile.target import A100, CPU, H100, Target
from tests.regions import attention, matmul, meta, norm, regions

CASES: dict[str, tuple[Any, Sequence[torch.Tensor]]] = {
    "matmul": (matmul, (meta(4096, 4096), meta(4096, 6144))),
    "fp32": (matmul, (meta(512, 512, dtype=torch.float32), meta(512, 512, dtype=torch.float32))),
    "skinny": (matmul, (meta(4, 4096), meta(4096, 4096))),
    "attention": (attention, [meta(8, 1024, 64)] * 3),
    "norm": (norm, (meta(2048, 4096),)),
    "pointwise": (lambda x, y: torch.sigmoid(x) * y, (meta(2048, 4096), meta(2048, 4096))),
}


def gated(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(x @ gate.T) * (x @ up.to(x.dtype).T)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", [H100, A100, CPU], ids=lambda t: t.name)
def test_candidates_are_legal_and_start_with_the_first_choice(case: str, target: Target) -> None:
    for op in regions(*CASES[case], target=target.name):
        body = op.regions[0]
        found = candidates(body, target, 24)
        assert found[0] == schedule_region(body, target)
        assert 1 < len(found) <= 24
        assert len({repr(s.attrs()) for s in found}) == len(found)
        access = compose(body, space_of(found[0]))
        for schedule in found[1:]:
            assert [(a.name, a.role) for a in schedule.axes] == [(a.name, a.role) for a in found[0].axes]
            assert all(a.tile & (a.tile - 1) == 0 for a in schedule.axes)
            assert shared_bytes(schedule, access) <= target.shared_memory
            if target.kind == "cuda":
                assert accumulator_elements(schedule, access) <= MOST_ACCUMULATORS_PER_THREAD * 32 * schedule.num_warps
            assert not schedule.specialize or schedule.num_warps == 4


def test_options_are_tried_where_the_gpu_has_them() -> None:
    (op,) = regions(*CASES["matmul"], target="h100")
    assert any(s.descriptors and s.persistent for s in candidates(op.regions[0], H100, 24))
    assert not any(s.options() for s in candidates(op.regions[0], A100, 24))


@pytest.mark.parametrize(
    "up, joins",
    [(meta(14336, 4096), True), (meta(4096, 14336).T, False), (meta(14336, 4096, dtype=torch.float32), False)],
    ids=["alike", "transposed", "dtypes"],
)
def test_two_products_are_joined_where_one_block_can_hold_both(up: torch.Tensor, joins: bool) -> None:
    found = regions(gated, (meta(4096, 4096), meta(14336, 4096), up), target="h100")
    bodies = [op.regions[0] for op in found]
    assert any(s.joined for body in bodies for s in candidates(body, H100, 24)) == joins
    assert any(schedule_region(body, H100).joined for body in bodies) == joins
    assert not any(s.joined for body in bodies for s in candidates(body, A100, 24))


def test_a_short_list_has_different_tiles() -> None:
    (op,) = regions(*CASES["matmul"], target="h100")
    assert len({str(s) for s in candidates(op.regions[0], H100, 8)}) > 1


def _estimate(schedule: Schedule, tiles: dict[str, int]) -> float:
    (op,) = regions(*CASES["matmul"], target="h100")
    changed = with_tiles(schedule, **tiles)
    return seconds(changed, compose(op.regions[0], space_of(changed)), H100)


def test_the_estimate_knows_traffic_padding_and_waves() -> None:
    (op,) = regions(*CASES["matmul"], target="h100")
    first = schedule_region(op.regions[0], H100)
    m, n, k = (a.name for a in first.axes)
    large, small = {m: 128, n: 256, k: 64}, {m: 16, n: 16, k: 64}
    assert _estimate(first, large) < _estimate(first, small)  # small tiles read the operands more often
    assert _estimate(first, large) < _estimate(first, {m: 4096, n: 4096, k: 64})  # one program leaves the others idle
    assert _estimate(first, large) <= _estimate(first, {m: 128, n: 4096, k: 64})  # 6144 is not a multiple


def test_results_of_a_persistent_program_have_their_own_place() -> None:
    (op,) = regions(*CASES["matmul"], target="h100")
    first = replace(schedule_region(op.regions[0], H100), descriptors=True, persistent=False, epilogue=1)
    access = compose(op.regions[0], space_of(first))
    plain, whole, halves = (
        shared_bytes(replace(first, persistent=persistent, epilogue=epilogue), access)
        for persistent, epilogue in ((False, 1), (True, 1), (True, 2))
    )
    assert plain < halves < whole


def test_a_sum_of_squares_before_a_weight_is_estimated_too() -> None:
    def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight

    for op in regions(rms_norm, (meta(2048, 4096), meta(4096)), "h100"):
        assert len(candidates(op.regions[0], H100, 8)) > 1
