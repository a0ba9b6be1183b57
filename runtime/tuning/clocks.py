"""Timing kernels: on a GPU with a cold L2 cache, by its own clock; on the CPU by the wall's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from time import perf_counter
from typing import Protocol

import torch

from rooftile.target import Target

Call = Callable[[], object]


class Clock(Protocol):
    """Measures calls, and the time that measuring takes."""

    def now(self) -> float:
        """Seconds since some moment."""

    def microseconds(self, calls: Sequence[Call], repeats: int) -> list[list[float]]:
        """What each call takes, ``repeats`` times. Calls take turns, so that a change of the GPU's pace meets all."""


class WallClock:
    """For calls that have done their work when they return."""

    def now(self) -> float:
        """Seconds."""
        return perf_counter()

    def microseconds(self, calls: Sequence[Call], repeats: int) -> list[list[float]]:
        """See ``Clock``."""
        found: list[list[float]] = [[] for _ in calls]
        for _ in range(repeats):
            for times, call in zip(found, calls, strict=True):
                start = perf_counter()
                call()
                times.append((perf_counter() - start) * 1e6)
        return found


class CudaClock:
    """For calls that submit work to the current stream.

    Before each, more memory is read than the L2 cache holds (written memory would be on its way back during the call).
    That also takes longer than submitting the call, so that the host's time is not measured.
    """

    def __init__(self, l2_bytes: int, device: torch.device) -> None:
        self._filler = torch.zeros(max(4 * l2_bytes, 2**27) // 4, dtype=torch.float32, device=device)

    def now(self) -> float:
        """Seconds."""
        return perf_counter()

    def microseconds(self, calls: Sequence[Call], repeats: int) -> list[list[float]]:
        """See ``Clock``."""
        times = gpu_milliseconds(calls, repeats, before=self._filler.sum)
        return [[each * 1e3 for each in of_call] for of_call in times]


def gpu_milliseconds(calls: Sequence[Call], repeats: int, before: Call) -> list[list[float]]:
    """What the current CUDA stream takes for each call, ``repeats`` times, ``before`` having been submitted first.

    Calls take turns, in another order each time: at its power limit a GPU slows whatever follows a product.
    """
    rounds = [[(_event(), _event()) for _ in calls] for _ in range(repeats)]
    shuffled = Random(0)
    for events in rounds:
        for call, (start, end) in shuffled.sample([*zip(calls, events, strict=True)], len(calls)):
            before()
            start.record()
            call()
            end.record()
    torch.cuda.synchronize()
    return [[start.elapsed_time(end) for start, end in (events[n] for events in rounds)] for n in range(len(calls))]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def clock_for(target: Target, device: torch.device) -> Clock:
    """The clock for kernels of ``target`` on ``device``."""
    return CudaClock(target.l2_bytes, device) if device.type == "cuda" else WallClock()
