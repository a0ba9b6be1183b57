"""Reductions of many results, such as a router's choice and what its experts gave: schedules, compiled for sm_90."""

from __future__ import annotations

import pytest
import torch

from rooftile.codegen.emit import emit
from rooftile.ir.schedule import Schedule
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.regions import meta, regions


def choice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As a router chooses: a few of the largest of each row, as parts of a whole."""
    values, places = x.softmax(-1, dtype=torch.float32).topk(8)
    return values, places


@pytest.mark.parametrize(("count", "rows"), [(64, 8192), (32, 8192), (16, 65536)])
def test_each_warp_ranks_rows_of_its_own_where_there_are_many(count: int, rows: int) -> None:
    op = regions(choice, (meta(rows, count),), "h100")[0]
    schedule = Schedule.from_attrs(op.attrs)
    tile = next(a.tile for a in schedule.axes if a.role == "grid")
    assert tile >= 2 and schedule.num_warps <= tile
    assert compile_kernel(emit(op.regions[1], H100), H100.arch).resources.spill_bytes == 0


def test_few_rows_have_all_warps_each() -> None:
    op = regions(choice, (meta(16, 64),), "h100")[0]
    schedule = Schedule.from_attrs(op.attrs)
    assert schedule.num_warps == 8 and next(a.tile for a in schedule.axes if a.role == "grid") == 1


def marked(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Rows of experts that another device holds would be zero: of these there are none."""
    numbers, order = x.topk(8)[1].flatten().sort()
    return rows[order // 8].masked_fill((numbers >= x.shape[-1])[:, None], 0.0)


def test_places_are_known_to_lie_in_a_row() -> None:
    for rows in (16, 8192):
        ops = regions(marked, (meta(rows, 64), meta(rows, 256)), "h100")
        assert not any(each.attrs.get("fn") == "ge" for op in ops for each in op.regions[0].ops)


@pytest.mark.parametrize("tokens", [16, 8192])
def test_sums_of_rows_exchange_nothing_between_warps(tokens: int) -> None:
    """What each token's experts gave: a warp sums the columns that it loads."""
    (op,) = regions(lambda x: x.sum(1), (meta(tokens, 8, 2048),), "h100")
    assert compile_kernel(emit(op.regions[1], H100), H100.arch).shared_bytes == 0


def test_a_norm_of_sums_of_rows_is_loaded_by_as_many_warps_as_lie_in_line() -> None:
    """With sixteen, two would share the columns of a row, and exchange their sums of two thousand of them."""
    norm = torch.nn.functional.rms_norm
    (op,) = regions(lambda x: norm(x.sum(1), (2048,)), (meta(2048, 8, 2048),), "h100")
    assert Schedule.from_attrs(op.attrs).num_warps == 8
    assert compile_kernel(emit(op.regions[1], H100), H100.arch).shared_bytes <= 4096
