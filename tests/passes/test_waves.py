"""Waves of tiles: the last one is cut where that is quicker, and only there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rooftile.ir.schedule import Schedule
from rooftile.passes.schedules.waves import PIECES, best_pieces, expected_gain, waves
from rooftile.target import H200
from tests.regions import meta, regions

LONG = 150e-6


@given(st.integers(1, 5000), st.integers(1, 200), st.sampled_from(sorted(PIECES)), st.floats(1e-6, 1e-3))
def test_between_the_work_and_whole_waves(tiles: int, programs: int, pieces: int, seconds: float) -> None:
    taken, whole = waves(tiles, programs, pieces, seconds), -(-tiles // programs)
    assert taken >= tiles / programs - 1e-9
    chosen = best_pieces(tiles, programs, seconds, pieces)
    assert waves(tiles, programs, chosen, seconds) <= whole and 1 <= chosen <= pieces


@pytest.mark.parametrize(
    ("tiles", "seconds", "pieces"),
    [(448, LONG, 2), (160, LONG, 4), (640, LONG, 1), (132, LONG, 1), (448, 5e-6, 1), (132 * 60 + 40, LONG, 1)],
)
def test_the_last_wave_is_cut_where_that_is_quicker(tiles: int, seconds: float, pieces: int) -> None:
    assert best_pieces(tiles, 132, seconds, 4) == pieces


def test_what_only_the_data_tell_is_worth_less_the_more_tiles_there_are() -> None:
    assert expected_gain(1088, 132, 2, LONG) > expected_gain(7168, 132, 2, LONG) > 0
    assert expected_gain(1088, 132, 2, 5e-6) == 0


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "tail"),
    [(4096, 3584, 18944, 2), (2048, 5120, 17408, 2), (4096, 4096, 4096, 1), (2048, 2560, 2048, 4)],
)
def test_products_whose_last_wave_is_short(rows: int, columns: int, depth: int, tail: int) -> None:
    def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x @ w.T

    (op,) = regions(product, (meta(rows, depth), meta(columns, depth)), target=H200.name)
    schedule = Schedule.from_attrs(op.attrs)
    assert schedule.tail == tail and schedule.persistent
    assert max(a.tile for a in schedule.axes) == 256
