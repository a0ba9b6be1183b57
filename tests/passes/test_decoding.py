"""Few queries over a long cache under a mask: an H100 gets a program for each multiprocessor, and nothing spills."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod

import pytest
import torch
from torch import Tensor

from rooftile.codegen.emit import emit
from rooftile.ir.schedule import Schedule
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100, H200
from tests.regions import meta, regions

CACHE = 32768


def positions(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the queries, as a column, and of the keys."""
    return torch.arange(q.shape[-2], device=q.device)[:, None], torch.arange(k.shape[-2], device=q.device)


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, fill: float = -inf) -> Tensor:
    """Grouped heads, with the scores of ``hidden`` keys replaced."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return (q @ k.transpose(-1, -2) / 11).masked_fill(hidden, fill).softmax(-1) @ v


def last_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The queries are the last positions, and see what is not after them."""
    i, j = positions(q, k)
    return attend(q, k, v, j > i + k.shape[-2] - q.shape[-2])


def filled(q: Tensor, k: Tensor, v: Tensor, length: Tensor) -> Tensor:
    """A cache of which only the first ``length`` positions are filled."""
    return attend(q, k, v, positions(q, k)[1] >= length[:, None, None, None])


def filled_lowest(q: Tensor, k: Tensor, v: Tensor, length: Tensor) -> Tensor:
    return attend(q, k, v, positions(q, k)[1] >= length[:, None, None, None], torch.finfo(q.dtype).min)


def last_of_filled(q: Tensor, k: Tensor, v: Tensor, length: Tensor) -> Tensor:
    """The queries stand at the end of what is filled."""
    i, j = positions(q, k)
    return attend(q, k, v, j > i + length[:, None, None, None] - q.shape[-2])


def given(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return attend(q, k, v, ~mask)


LENGTH = meta(1, dtype=torch.int64)
MASKED: dict[Callable[..., Tensor], Callable[[int], tuple[Tensor, ...]]] = {
    last_queries: lambda queries: (),
    filled: lambda queries: (LENGTH,),
    filled_lowest: lambda queries: (LENGTH,),
    last_of_filled: lambda queries: (LENGTH,),
    given: lambda queries: (meta(1, 1, queries, CACHE, dtype=torch.bool),),
}


@pytest.mark.parametrize("queries", [1, 2, 5, 16])
@pytest.mark.parametrize("model", MASKED, ids=lambda f: f.__name__)
def test_masked_decoding_fills_an_h100_and_spills_nothing(model: Callable[..., Tensor], queries: int) -> None:
    inputs = (meta(1, 32, queries, 128), meta(1, 8, CACHE, 128), meta(1, 8, CACHE, 128), *MASKED[model](queries))
    ops = regions(model, inputs, "h100")
    assert len(ops) == 2
    grid = [-(-int(str(a.extent)) // a.tile) for a in Schedule.from_attrs(ops[0].attrs).axes if a.role == "grid"]
    assert prod(grid) == 128
    for op in ops:
        binary = compile_kernel(emit(op.regions[1], H100, op.regions[0]), H100.arch)
        assert binary.resources.spill_bytes == 0 and binary.shared_bytes <= H100.shared_memory


def weights_of_grouped_heads(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The weights of one query of 32 heads, four of which share keys, which are stored."""
    scores = q @ k.repeat_interleave(4, dim=1).transpose(-1, -2)
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype)


def test_a_sweep_that_no_parts_can_share_is_not_left_to_a_program_for_each_group() -> None:
    found = regions(weights_of_grouped_heads, (meta(1, 32, 1, 64), meta(1, 8, 2048, 64)), "h200")
    assert len(found) > 1, "eight programs would compute all scores"


@pytest.mark.parametrize(("size", "warps"), [(64, 2), (128, 4)])
def test_few_rows_of_narrow_heads_are_two_warps(size: int, warps: int) -> None:
    """Others would have their maxima and sums exchanged among more."""
    inputs = (meta(16, 32, 1, size), meta(16, 8, 2048, size), meta(16, 8, 2048, size), meta(16, dtype=torch.int64))
    (op,) = regions(filled, inputs, "h200")
    assert op.attrs["num_warps"] == warps
    binary = compile_kernel(emit(op.regions[1], H200, op.regions[0]), H200.arch)
    assert binary.resources.spill_bytes == 0 and 2 * binary.shared_bytes <= H200.shared_memory
