"""Successive halving with made-up times: who wins, at what price, and that noise does not decide."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from rooftile.runtime.tuning.halving import clearly_faster, halve, ranking


class Track:
    """Contestants with a true time each; a run adds noise, and once in a while an outlier."""

    def __init__(self, true: Sequence[float], noise: float = 0.0, seed: int = 0) -> None:
        self.true, self.noise, self.draw = true, noise, random.Random(seed)
        self.runs = 0

    def sample(self, numbers: Sequence[int], repeats: int) -> list[list[float]]:
        self.runs += len(numbers) * repeats
        return [[self.one(number) for _ in range(repeats)] for number in numbers]

    def one(self, number: int) -> float:
        outlier = 500.0 if self.noise and self.draw.random() < 0.05 else 0.0
        return self.true[number] * (1 + self.noise * self.draw.random()) + outlier


def winner(track: Track) -> int:
    return ranking(halve(len(track.true), track.sample, lambda: False))[0]


@pytest.mark.parametrize("seed", range(10))
def test_the_fastest_wins_in_spite_of_noise(seed: int) -> None:
    true = [100.0] * 20
    true[13] = 80.0
    assert winner(Track(true, noise=0.05, seed=seed)) == 13


@pytest.mark.parametrize("seed", range(10))
def test_of_equals_the_first_is_chosen_every_time(seed: int) -> None:
    assert winner(Track([100.0] * 12, noise=0.03, seed=seed)) == 0


def test_a_gain_within_a_percent_is_none() -> None:
    assert winner(Track([100.0, 99.5])) == 0
    assert winner(Track([100.0, 97.0])) == 1


def test_slow_ones_are_run_a_few_times_only() -> None:
    true = [float(100 + n) for n in range(64)]
    track = Track(true)
    times = halve(64, track.sample, lambda: False)
    assert len(times[63]) < len(times[1])
    assert track.runs < 64 * 20


def test_the_first_choice_is_measured_to_the_end() -> None:
    times = halve(16, Track([900.0] + [100.0] * 15).sample, lambda: False)
    assert len(times[0]) == max(len(found) for found in times.values())


def test_time_that_is_up_ends_it_with_what_is_known() -> None:
    track = Track([100.0, 50.0, 70.0, 60.0, 80.0])
    times = halve(5, track.sample, lambda: True)
    assert ranking(times)[0] == 1 and track.runs == 5 * 3


def test_a_gpu_that_slows_down_does_not_decide() -> None:
    class Warming(Track):
        def one(self, number: int) -> float:
            self.turns = getattr(self, "turns", 0) + 1
            return super().one(number) * (1 + min(0.2, self.turns / 1000))

    assert winner(Warming([100.0] + [103.0] * 23, noise=0.01)) == 0
    assert winner(Warming([100.0] + [103.0] * 12 + [95.0] + [103.0] * 10, noise=0.01)) == 13


def test_one_contestant_needs_no_race() -> None:
    assert ranking(halve(1, Track([5.0]).sample, lambda: False)) == [0]


def test_an_outlier_is_not_noise() -> None:
    assert clearly_faster([10.0, 10.1, 9.9, 10.0, 300.0], [12.0, 12.1, 11.9, 12.0, 12.0])
    assert not clearly_faster([10.0, 14.0, 8.0], [11.0, 7.0, 15.0])
