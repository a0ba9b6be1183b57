"""A region while it is tuned: its candidates, in rounds, and what has been found out about them.

Rounds are what makes searching short. The first choice is a round of its own: what its time leaves above the roofline
is all that there is to be won. Later rounds are a few candidates each, in the order of what the model expects of them;
one that wins nothing is the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from rooftile.ir.core import Op
from rooftile.passes.reschedule import Choice
from rooftile.passes.schedules.together import Together
from rooftile.runtime.tuning.trials import Built, Pick

ROUND = 8  # candidates that are compiled before it is asked again whether there is something to be won
AT_THE_FLOOR = 1.03  # times the roofline: what is that fast has no better schedule
WORTH = 0.003  # a share of the time of all regions: one that can't win that much is left as it is
MUCH = 0.1  # a share for which one more round is tried after one that won nothing


@dataclass(frozen=True)
class Tried:
    """A candidate that was timed: the median in microseconds of so many ``runs``."""

    schedule: Pick
    microseconds: float
    runs: int


@dataclass(frozen=True)
class Outcome:
    """What tuning found for a region: its schedule, the times of this one and of the first choice in microseconds
    (None where nothing was timed), and all candidates that were timed, the fastest first.

    ``unit`` are the regions that share its launch, itself among them, whose times these are; or it alone.
    """

    op: Op
    unit: tuple[Op, ...]
    sizes: Mapping[str, int]
    schedule: Choice
    microseconds: float | None
    first_microseconds: float | None
    tried: tuple[Tried, ...] = ()

    @property
    def timed(self) -> int:
        """How many candidates were timed."""
        return len(self.tried)


@dataclass
class Unit:
    """A region, or those that share a launch, which a program runs ``times`` times: the candidates, about ``most``, of
    which all but the first are found when they are asked for; and how long this one takes by the estimate, and at the
    least by the roofline (0 where that is not known), in seconds.

    Candidates are known by their rank. ``asked`` is how many are being compiled or have been; ``waiting`` are those
    that were not looked at yet, ``built`` those that can run, ``kernels`` the ranks by the keys of their kernels.
    ``best`` is the one to choose by what is known so far, ``microseconds`` are its time and the first choice's, and
    ``barren`` are the rounds since it was found.
    """

    ops: tuple[Op, ...]
    sizes: Mapping[str, int]
    schedules: list[Pick]
    most: int
    estimate: float
    floor: float
    times: int
    asked: int = 0
    waiting: dict[int, Future[Built]] = field(default_factory=dict)
    built: dict[int, Built] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)
    best: int = 0
    barren: int = 0
    microseconds: tuple[float, float] | None = None
    tried: dict[int, Tried] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The names of its regions."""
        return ", ".join(str(op.attrs["name"]) for op in self.ops)

    @property
    def weight(self) -> float:
        """Seconds of a call of the program, by the estimate."""
        return self.estimate * self.times

    def next_round(self) -> range:
        """The ranks to ask for next: the first choice alone, then a round of others; none at the end."""
        found = range(self.asked, min(self.asked + ROUND, len(self.schedules)) if self.asked else 1)
        self.asked = found.stop
        return found

    def is_ready(self, late: bool) -> bool:
        """Whether the round that is to be timed next is compiled; if it is ``late``, without what isn't, except for the
        first choice."""
        return all(self.waiting[rank].done() or (late and rank > 0) for rank in self._round())

    def take_round(self) -> tuple[list[int], dict[int, Exception]]:
        """Its ranks, which are not waited for any longer, and why some of them can't be built."""
        ranks, errors = self._round(), dict[int, Exception]()
        for rank in ranks:
            future = self.waiting.pop(rank)
            if rank and not future.done():
                future.cancel()
                continue
            try:
                self.built[rank] = future.result()
            except Exception as error:  # whatever is the matter with a candidate, there are others
                errors[rank] = error
        return ranks, errors

    def _round(self) -> list[int]:
        """What is to be timed next of what was asked for: the first choice alone, then all the others."""
        return [0] if 0 in self.waiting else sorted(self.waiting)

    def close(self) -> None:
        """Nothing more is compiled for it."""
        for future in self.waiting.values():
            future.cancel()
        self.waiting.clear()

    def goes_on(self, all_seconds: float) -> bool:
        """Whether another round is worth it, among regions that take ``all_seconds``; asked once the first choice was
        timed."""
        if self.microseconds is None:
            return False
        best = self.microseconds[0] / 1e6
        floor = self.floor if best > self.floor / AT_THE_FLOOR else 0.0  # it is none where less happens than expected
        left = (best - floor) * self.times / all_seconds
        return best > AT_THE_FLOOR * floor and left > WORTH and self.barren <= (left > MUCH)

    def outcomes(self) -> Iterator[Outcome]:
        """One for each region."""
        pick = self.schedules[self.best]
        each = pick.schedules if isinstance(pick, Together) else (pick,)
        found, first = self.microseconds or (None, None)
        tried = tuple(sorted(self.tried.values(), key=lambda t: t.microseconds))
        for op, schedule in zip(self.ops, each, strict=True):
            yield Outcome(op, self.ops, self.sizes, schedule, found, first, tried)
