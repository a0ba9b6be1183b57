"""Timing on a GPU: every call has turns of its own, each behind what is to come before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rooftile.runtime.tuning.clocks import gpu_milliseconds


class Stream:
    """A GPU that takes a second for all that comes before a call, and as many milliseconds as each call says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[int] = []

    def event(self, **_: Any) -> Event:
        """As torch makes one."""
        return Event(self)

    def flush(self) -> None:
        """Comes before a call."""
        self.now += 1000.0

    def work(self, milliseconds: int) -> None:
        """A call."""
        self.now += milliseconds
        self.done.append(milliseconds)


class Event:
    """When the GPU came to it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def record(self) -> None:
        """Submits the event."""
        self.at = self._stream.now

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds up to ``end``."""
        return end.at - self.at


def test_calls_take_turns_and_what_comes_before_them_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr(torch.cuda, "Event", stream.event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = [lambda n=n: stream.work(n) for n in (1, 2, 3, 4)]
    assert gpu_milliseconds(calls, 5, stream.flush) == [[1.0] * 5, [2.0] * 5, [3.0] * 5, [4.0] * 5]
    rounds = [stream.done[at : at + 4] for at in range(0, 20, 4)]
    assert all(sorted(each) == [1, 2, 3, 4] for each in rounds)
    assert len({*map(tuple, rounds)}) > 1  # no call always follows the same one
