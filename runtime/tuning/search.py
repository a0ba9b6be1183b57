"""Tuning: the candidates of each region compiled side by side, the legal ones timed, the winner checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from statistics import median

import torch

from rooftile.config import Config
from rooftile.errors import RooftileError
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.space import space_of
from rooftile.passes.reschedule import Choice
from rooftile.passes.schedules.candidates import candidates
from rooftile.passes.schedules.estimate import seconds
from rooftile.passes.schedules.library import Library, libraries_of
from rooftile.passes.schedules.together import Together, candidates_together
from rooftile.passes.splitting.choice import InParts, in_parts
from rooftile.runtime.tuning.clocks import Clock
from rooftile.runtime.tuning.faults import Faulted, is_remembered
from rooftile.runtime.tuning.halving import halve, ranking
from rooftile.runtime.tuning.inputs import agree, example_tensors, tolerance
from rooftile.runtime.tuning.trials import Built, Pick, Trial, build
from rooftile.target import Target

COMPILING = 0.7  # the share of the budget after which no further candidate is compiled

MINOR = 0.05  # a region that takes less than this share of the longest one's time has a third of the candidates

_LOG = logging.getLogger("rooftile.tuning")

# Told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How much is tried: candidates of a region, and seconds for all regions of a model together."""

    candidates: int
    seconds: float


EFFORTS: Mapping[str, Effort] = {"quick": Effort(8, 20.0), "full": Effort(24, 90.0)}


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
    microseconds: float | None = None
    first_microseconds: float | None = None
    tried: tuple[Tried, ...] = ()

    @property
    def timed(self) -> int:
        """How many candidates were timed."""
        return len(self.tried)


@dataclass
class _Unit:
    """A region on its way, or those that share a launch: the candidates, how long the first is estimated to take, and
    those built, by rank."""

    ops: tuple[Op, ...]
    sizes: Mapping[str, int]
    schedules: Sequence[Pick]
    estimate: float
    built: dict[int, Built] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ", ".join(str(op.attrs["name"]) for op in self.ops)

    def outcomes(
        self, pick: Pick, found: float | None = None, first: float | None = None, tried: tuple[Tried, ...] = ()
    ) -> Iterator[Outcome]:
        """One for each region."""
        each = pick.schedules if isinstance(pick, Together) else (pick,)
        for op, schedule in zip(self.ops, each, strict=True):
            yield Outcome(op, self.ops, self.sizes, schedule, found, first, tried)


@dataclass
class Search:
    """Tunes regions on a device; ``precision`` is that of fp32 products."""

    target: Target
    device: torch.device
    config: Config
    precision: str
    effort: Effort
    clock: Clock
    progress: Progress = lambda what, done, total: None
    interrupted: bool = False

    def run(self, regions: Sequence[tuple[Op | tuple[Op, ...], Mapping[str, int]]]) -> Iterator[Outcome]:
        """An outcome for each region op, as soon as it is known; the regions that matter most come first.

        A region, or those that share a launch, come with the run-time sizes that they are timed for. When the time is
        up, or Ctrl-C is pressed, what has been found so far counts, and regions that were not timed keep their first
        choice.
        """
        deadline = self.clock.now() + self.effort.seconds
        waiting = sorted((self._unit(*each) for each in regions), key=lambda r: r.estimate, reverse=True)
        for region in waiting:
            if region.estimate < MINOR * waiting[0].estimate:
                region.schedules = region.schedules[: max(2, self.effort.candidates // 3)]
        try:
            self._build(waiting, deadline)
        except KeyboardInterrupt:
            self._interrupt()
        for number, region in enumerate(waiting):
            self.progress(f"timing {region.name}", number, len(waiting))
            yield from self._outcomes(region, deadline)
        self.progress("done", len(waiting), len(waiting))

    def _unit(self, ops: Op | tuple[Op, ...], sizes: Mapping[str, int]) -> _Unit:
        most = self.effort.candidates
        if isinstance(ops, tuple) and len(ops) > 1:
            firsts = [Schedule.from_attrs(op.attrs) for op in ops]
            estimate = sum(map(self._seconds, ops, firsts))
            return _Unit(ops, sizes, candidates_together(ops, self.target, most), estimate)
        op = ops[0] if isinstance(ops, tuple) else ops
        schedules = candidates(op.regions[0], self.target, most)
        parts = in_parts(op, self.target) if self.target.kind == "cuda" else ()
        choices = (schedules[0], *self._library(op), *parts, *schedules[1:])
        return _Unit((op,), sizes, choices, self._seconds(op, schedules[0]))

    def _seconds(self, op: Op, schedule: Schedule) -> float:
        return seconds(schedule, compose(op.regions[0], space_of(schedule)), self.target)

    def _library(self, op: Op) -> tuple[Choice, ...]:
        """A library's kernels, where they may be chosen; not on the CPU, where anything is faster than interpreting."""
        wanted = self.config.library and self.target.kind == "cuda"
        return libraries_of(op, self.target) if wanted else ()

    def _over(self, deadline: float) -> bool:
        return self.interrupted or self.clock.now() >= deadline

    def _interrupt(self) -> None:
        self.interrupted = True
        _LOG.warning("interrupted: what has been found so far is kept")

    def _build(self, regions: Sequence[_Unit], deadline: float) -> None:
        """Compile on all cores: every region's first choice, then every region's second, and so on."""
        until = deadline - (1 - COMPILING) * self.effort.seconds
        jobs = sorted((rank, n) for n, region in enumerate(regions) for rank in range(len(region.schedules)))
        pool = ThreadPoolExecutor(max(1, self.config.compile_workers))
        try:
            futures: dict[Future[Built], tuple[int, int]] = {}
            for rank, n in jobs:
                unit, schedule = regions[n].ops, regions[n].schedules[rank]
                future = pool.submit(build, unit, schedule, self.precision, self.target, self.config)
                futures[future] = rank, n
            pending = set(futures)
            while pending and self.clock.now() < until:
                _, pending = wait(pending, timeout=0.2)
                self.progress("compiling", len(futures) - len(pending), len(futures))
            for future, (rank, n) in futures.items():
                self._collect(future, regions[n], rank)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _collect(self, future: Future[Built], region: _Unit, rank: int) -> None:
        if rank and not future.done():  # the first choice is waited for, since it is what the others are held against
            future.cancel()
            return
        try:
            region.built[rank] = future.result()
        except Exception as error:  # whatever is the matter with a candidate, there are others
            _LOG.info("%s with %s: %s", region.name, schedule_text(region.schedules[rank]), error)

    def _outcomes(self, region: _Unit, deadline: float) -> Iterator[Outcome]:
        if 0 in region.built and not self._over(deadline):
            try:
                return self._race(region, deadline)
            except KeyboardInterrupt:
                self._interrupt()
        return region.outcomes(region.schedules[0])

    def _race(self, region: _Unit, deadline: float) -> Iterator[Outcome]:
        op = region.built[0].op
        tensors = example_tensors(op, region.sizes, self.device)
        trials = self._trials(region, tensors)
        expected = trials[0].results()

        def sample(numbers: Sequence[int], repeats: int) -> list[list[float]]:
            return self.clock.microseconds([trials[number] for number in numbers], repeats)

        times = halve(len(trials), sample, lambda: self._over(deadline))
        tried = _tried(trials, times)
        for number in ranking(times):
            schedule = trials[number].built.schedule
            if number == 0 or agree(trials[number].results(), expected, tolerance(op)):
                return region.outcomes(schedule, median(times[number]), median(times[0]), tried)
            _LOG.warning("%s with %s gives another answer: not used", region.name, schedule_text(schedule))
        raise AssertionError("the first choice agrees with itself")

    def _trials(self, region: _Unit, tensors: Sequence[torch.Tensor]) -> list[Trial]:
        """What is worth timing, the first choice at the front; each kernel once."""
        first = region.built[0]
        kernels: dict[str, Built] = {}
        for _, built in sorted(region.built.items()):
            key, reason = built.key(self.target), built.why_not(first)
            if reason is None and built is not first and is_remembered(self.config.cache_dir, key):
                reason = "faulted when it was tried before"
            if reason is None:
                kernels.setdefault(key, built)
            else:
                _LOG.info("%s with %s %s", region.name, schedule_text(built.schedule), reason)
        trials: list[Trial] = []
        for built in kernels.values():
            shared = trials[0] if trials else None
            try:
                trial = Trial(built, tensors, region.sizes, self.target, self.device, self.config, shared)
                trial.try_out()
            except Faulted:
                raise
            except RooftileError as error:
                if not trials:
                    raise
                _LOG.info("%s with %s: %s", region.name, schedule_text(built.schedule), error)
            else:
                trials.append(trial)
        return trials


def _tried(trials: Sequence[Trial], times: Mapping[int, Sequence[float]]) -> tuple[Tried, ...]:
    found = [Tried(trials[n].built.schedule, median(each), len(each)) for n, each in times.items() if each]
    return tuple(sorted(found, key=lambda tried: tried.microseconds))


def schedule_text(schedule: Pick) -> str:
    """Tiles, warps, stages, how tiles are grouped, and unusual options, in a line; or what else is done."""
    if isinstance(schedule, Library | InParts):
        return str(schedule)
    if isinstance(schedule, Together):
        texts = " beside ".join(map(schedule_text, schedule.schedules))
        return texts if schedule.is_shared else f"in launches of their own: {texts}"
    options = "".join(f", {name}={value}" for name, value in schedule.options().items())
    group = "" if schedule.group is None else f", {schedule.group[0]} in groups of {schedule.group[1]}"
    return f"{schedule}; {schedule.num_warps} warps, {schedule.num_stages} stages{group}{options}"
