"""Products whose rows are reduced behind them, and short sums of rows: schedules, and what compiled kernels use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rooftile.codegen.emit import emit
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.runtime.build import compile_kernel
from rooftile.target import H200
from tests.regions import meta, regions

ROWS, SIZE = 2048, 256


def normed_heads(x: Tensor, w: Tensor) -> Tensor:
    """Heads of 256, each divided by its norm, as Qwen3-Next's queries and keys are."""
    heads = (x @ w.T).float().view(ROWS, -1, SIZE)
    return (heads * torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + 1e-6)).bfloat16()


def tile(op: Op, extent: int, role: str) -> int:
    axes = Schedule.from_attrs(op.attrs).axes
    return next(a.tile for a in axes if a.extent == extent and a.role == role)


@pytest.mark.parametrize(("heads", "rows", "warps"), [(16, 128, 8), (2, 64, 4)])
def test_a_norm_of_wide_heads_is_part_of_a_product_as_fast_as_any(heads: int, rows: int, warps: int) -> None:
    (op,) = regions(normed_heads, (meta(ROWS, 4096), meta(heads * SIZE, 4096)), "h200")
    schedule = Schedule.from_attrs(op.attrs)
    assert (tile(op, ROWS, "grid"), tile(op, 4096, "loop")) == (rows, 64)
    assert (schedule.num_warps, schedule.num_stages, schedule.descriptors) == (warps, 3, True)
    binary = compile_kernel(emit(op.regions[1], H200, op.regions[0]), H200.arch)
    assert binary.resources.spill_bytes == 0 and binary.shared_bytes <= H200.shared_memory


def convolved(x: Tensor, w: Tensor) -> Tensor:
    """Each channel is convolved over four positions; channels are neighbours in memory."""
    channels = x.T[None]
    padded = torch.nn.functional.conv1d(channels, w[:, None], padding=3, groups=len(w))
    return torch.nn.functional.silu(padded[0, :, :ROWS])


def test_short_sums_are_many_to_a_tile() -> None:
    """Four positions of 64 channels keep no program busy (2048 x 8192 on an H200: 265 us)."""
    (op,) = regions(convolved, (meta(ROWS, 8192), meta(8192, 4)), "h200")
    assert tile(op, 8192, "grid") * 4 >= 2048
    kernel = emit(op.regions[1], H200, op.regions[0])
    assert compile_kernel(kernel, H200.arch).resources.spill_bytes == 0
