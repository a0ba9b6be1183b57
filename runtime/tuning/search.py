"""Tuning: the candidates of each region compiled side by side, the legal ones timed, the winner checked.

Both happen at once: while processors compile candidates, the device times those that are ready.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

import torch

from rooftile.config import Config
from rooftile.errors import RooftileError
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.access import Access
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.cost import floor_seconds
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
from rooftile.runtime.tuning.trials import Pick, Trial, build
from rooftile.runtime.tuning.unit import Outcome, Tried, Unit
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


Wanted: TypeAlias = "tuple[Op | tuple[Op, ...], Mapping[str, int]] | tuple[tuple[Op, ...], Mapping[str, int], int]"
"""A region op, or those that share a launch, the run-time sizes that they are timed for, and how often a program runs
them."""


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
    _quiet: threading.Lock = field(default_factory=threading.Lock)  # held while candidates are written down, or timed

    def run(self, regions: Sequence[Wanted]) -> Iterator[Outcome]:
        """An outcome for each region op, as soon as it is known.

        When the time is up, or Ctrl-C is pressed, what has been found so far counts, and regions that were not timed
        keep their first choice.
        """
        deadline = self.clock.now() + self.effort.seconds
        units = sorted((self._unit(*each) for each in regions), key=lambda unit: unit.weight, reverse=True)
        for unit in units:
            if unit.weight < MINOR * units[0].weight:
                unit.most = max(2, unit.most // 3)
        pool = ThreadPoolExecutor(max(1, self.config.compile_workers))
        try:
            yield from self._raced(units, pool, deadline)
        finally:  # what is still being compiled will be in the cache, should it be wanted another time
            pool.shutdown(wait=False, cancel_futures=True)
        self.progress("done", len(units), len(units))

    def _unit(self, ops: Op | tuple[Op, ...], sizes: Mapping[str, int], times: int = 1) -> Unit:
        ops = ops if isinstance(ops, tuple) else (ops,)
        firsts = [Schedule.from_attrs(op.attrs) for op in ops]
        first = Together(tuple(firsts)) if len(firsts) > 1 else firsts[0]
        estimate = sum(map(self._seconds, ops, firsts))
        floor = 0.0 if sizes else floor_seconds(list(map(_access, ops, firsts)), self.target)
        return Unit(ops, sizes, [first], self.effort.candidates, estimate, floor, times)

    def _others(self, unit: Unit) -> Iterator[Pick]:
        """What else may be chosen: the model's candidates, and behind the first of them a library and parts."""
        if len(unit.ops) > 1:
            yield from candidates_together(unit.ops, self.target, unit.most)
            return
        (op,) = unit.ops
        schedules = candidates(op.regions[0], self.target, unit.most)
        yield schedules[0]
        yield from self._library(op)
        yield from in_parts(op, self.target) if self.target.kind == "cuda" else ()
        yield from schedules[1:]

    def _seconds(self, op: Op, schedule: Schedule) -> float:
        return seconds(schedule, _access(op, schedule), self.target)

    def _library(self, op: Op) -> tuple[Choice, ...]:
        """A library's kernels, where they may be chosen; not on the CPU, where anything is faster than interpreting."""
        wanted = self.config.library and self.target.kind == "cuda"
        return libraries_of(op, self.target) if wanted else ()

    def _over(self, deadline: float) -> bool:
        return self.interrupted or self.clock.now() >= deadline

    def _interrupt(self) -> None:
        self.interrupted = True
        _LOG.warning("interrupted: what has been found so far is kept")

    def _raced(self, units: Sequence[Unit], pool: ThreadPoolExecutor, deadline: float) -> Iterator[Outcome]:
        """Time rounds of candidates, those that are compiled first, until nothing is to be won any more."""
        going_on = list(units)
        all_seconds = sum(unit.weight for unit in units)
        try:
            self._ask(units, pool)
            self._ask(units, pool)  # begun before the first round says whether there is anything to win
        except KeyboardInterrupt:
            self._interrupt()
        while going_on:
            unit = going_on[0]
            try:
                if not self._over(deadline):
                    unit = self._ready(going_on, deadline)
                    self.progress(f"timing {unit.name}", len(units) - len(going_on), len(units))
                    self._time_round(unit, deadline)
                    if unit.goes_on(all_seconds) and self._is_compiling(unit, pool):
                        continue
            except KeyboardInterrupt:
                self._interrupt()
            unit.close()
            going_on.remove(unit)
            yield from unit.outcomes()

    def _ask(self, units: Sequence[Unit], pool: ThreadPoolExecutor) -> None:
        """Have the next round of each compiled, so that one is timed while those behind it are compiled."""
        for unit in units:
            if unit.asked == 1:
                unit.schedules += [pick for pick in self._others(unit) if pick != unit.schedules[0]]
            for rank in unit.next_round():
                job = unit.ops, unit.schedules[rank], self.precision, self.target, self.config, self._quiet
                unit.waiting[rank] = pool.submit(build, *job)

    def _is_compiling(self, unit: Unit, pool: ThreadPoolExecutor) -> bool:
        """Whether a round is on its way; if not, the next one is, if there is any."""
        if not unit.waiting:
            self._ask([unit], pool)
        return bool(unit.waiting)

    def _ready(self, units: Sequence[Unit], deadline: float) -> Unit:
        """The first of the units of which a round is compiled, which is waited for; late, what is not compiled by then
        is left out."""
        until = deadline - (1 - COMPILING) * self.effort.seconds
        while True:
            waiting = [future for unit in units for future in unit.waiting.values()]
            running = [future for future in waiting if not future.done()]
            self.progress("compiling", len(waiting) - len(running), len(waiting))
            late = self.clock.now() >= until
            for unit in units:
                if unit.is_ready(late):
                    return unit
            wait(running, timeout=0.2, return_when=FIRST_COMPLETED)

    def _time_round(self, unit: Unit, deadline: float) -> None:
        """Time the round that is compiled, beside the first choice and the best so far."""
        (ranks, errors), before = unit.take_round(), unit.best
        for rank, error in errors.items():
            _LOG.info("%s with %s: %s", unit.name, schedule_text(unit.schedules[rank]), error)
        if 0 in unit.built and not unit.built.keys().isdisjoint(ranks):
            self._race(unit, sorted({0, unit.best, *ranks} & unit.built.keys()), deadline)
        unit.barren = 0 if 0 in ranks or unit.best != before else unit.barren + 1

    def _race(self, unit: Unit, ranks: Sequence[int], deadline: float) -> None:
        op = unit.built[0].op
        tensors = example_tensors(op, unit.sizes, self.device)
        trials = self._trials(unit, ranks, tensors)
        numbers = list(trials)
        expected = trials[0].results()

        def sample(chosen: Sequence[int], repeats: int) -> list[list[float]]:
            with self._quiet:
                return self.clock.microseconds([trials[numbers[n]] for n in chosen], repeats)

        times = halve(len(numbers), sample, lambda: self._over(deadline))
        for n, each in times.items():
            unit.tried[numbers[n]] = Tried(unit.schedules[numbers[n]], median(each), len(each))
        for n in ranking(times):
            rank = numbers[n]
            if rank == 0 or agree(trials[rank].results(), expected, tolerance(op)):
                unit.best, unit.microseconds = rank, (median(times[n]), median(times[0]))
                return
            _LOG.warning("%s with %s gives another answer: not used", unit.name, schedule_text(unit.schedules[rank]))

    def _trials(self, unit: Unit, ranks: Sequence[int], tensors: Sequence[torch.Tensor]) -> dict[int, Trial]:
        """What of these is worth timing, by rank, the first choice at the front; each kernel once."""
        trials: dict[int, Trial] = {}
        for rank in ranks:
            built = unit.built[rank]
            if reason := self._why_not(unit, rank):
                _LOG.info("%s with %s %s", unit.name, schedule_text(built.schedule), reason)
                continue
            shared = trials.get(0)
            try:
                trial = Trial(built, tensors, unit.sizes, self.target, self.device, self.config, shared)
                trial.try_out()
            except Faulted:
                raise
            except RooftileError as error:
                if rank == 0:
                    raise
                _LOG.info("%s with %s: %s", unit.name, schedule_text(built.schedule), error)
            else:
                trials[rank] = trial
        return trials

    def _why_not(self, unit: Unit, rank: int) -> str | None:
        """Why a candidate is not timed."""
        key = unit.built[rank].key(self.target)
        known = unit.kernels.setdefault(key, rank)
        if rank == 0:
            return None
        if known != rank:
            return f"is the same as with {schedule_text(unit.schedules[known])}"
        if is_remembered(self.config.cache_dir, key):
            return "faulted when it was tried before"
        return unit.built[rank].why_not(unit.built[0])


def _access(op: Op, schedule: Schedule) -> Access:
    return compose(op.regions[0], space_of(schedule))


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
