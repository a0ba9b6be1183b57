"""Finding the fastest of several calls with few runs: successive halving, and a verdict that noise cannot turn.

Karnin, Koren and Somekh, *Almost Optimal Exploration in Multi-Armed Bandits* (2013): all are run a few times, the
slower half drops out, and the others are run twice as often.

A GPU that is kept busy slows down, by a tenth where its power is what limits it: what ran while it was cool cannot be
held against what ran later. So every time is taken as a share of what number 0 took in the same turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import median

FIRST_REPEATS = 3
FINALISTS = 3
FINAL_REPEATS = 24
LEAST_GAIN = 0.01  # a difference that is not worth another choice

Sample = Callable[[Sequence[int], int], Sequence[Sequence[float]]]


def halve(count: int, sample: Sample, over: Callable[[], bool]) -> dict[int, list[float]]:
    """The times of contestants ``0 .. count - 1``, all at the pace at which number 0 takes its median time; those of
    the ones that dropped out early are few.

    ``sample(numbers, repeats)`` measures some of them in turns: the n-th times of all belong together. Number 0, which
    the others have to beat, stays until the end. ``over`` is asked between rounds whether to stop early.
    """
    times: dict[int, list[float]] = {number: [] for number in range(count)}
    alive, repeats = list(range(count)), FIRST_REPEATS
    while True:
        for number, more in zip(alive, sample(alive, repeats), strict=True):
            times[number] += more
        if len(alive) <= FINALISTS or over():
            break
        ranked = sorted(alive, key=lambda number: median(times[number]))
        alive = sorted({0, *ranked[: max(FINALISTS - 1, len(alive) // 2)]})
        repeats *= 2
    if not over():
        for number, more in zip(alive, sample(alive, FINAL_REPEATS), strict=True):
            times[number] += more
    return _at_one_pace(times)


def _at_one_pace(times: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    usual = median(times[0])
    return {n: [t * usual / first for t, first in zip(found, times[0], strict=False)] for n, found in times.items()}


def ranking(times: Mapping[int, Sequence[float]]) -> list[int]:
    """The contestants that were measured, the one to choose first.

    That is the first, in their own order, of those that stayed until the end and are not clearly slower than the
    fastest of them: so a second measurement chooses the same. The rest follows by time.
    """
    measured = [number for number, found in times.items() if found]
    by_time = sorted(measured, key=lambda number: median(times[number]))
    most = max(len(times[number]) for number in measured)
    last = [number for number in by_time if len(times[number]) == most]
    close = [n for n in sorted(last) if not clearly_faster(times[last[0]], times[n])]
    return [close[0], *(n for n in by_time if n != close[0])]


def clearly_faster(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` are less than ``b`` by more than noise and ``LEAST_GAIN`` explain."""
    noise = 2 * (_error(a) + _error(b))
    return median(a) < median(b) - max(noise, LEAST_GAIN * median(b))


def _error(times: Sequence[float]) -> float:
    """The standard error of the median, from the median deviation, which outliers don't change."""
    middle = median(times)
    deviation = 1.4826 * median(abs(t - middle) for t in times)
    return 1.2533 * deviation / sqrt(len(times))
