"""Schedules other than the model's first choices: from a lock file, or from timing candidates while compiling."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

import torch

from rooftile.config import Config
from rooftile.errors import OptionError
from rooftile.ir.core import Graph, Op
from rooftile.ir.expr import Symbol, of
from rooftile.passes.launches import sharing
from rooftile.passes.packing import is_packed
from rooftile.passes.regions.sizes import likely
from rooftile.passes.reschedule import Better
from rooftile.runtime.tuning.clocks import clock_for
from rooftile.runtime.tuning.lock import Entry, device_key, read_lock, update_lock
from rooftile.runtime.tuning.locked import Locked, Misfit, buckets, choice_of, entry_of, key_in, made_with
from rooftile.runtime.tuning.search import EFFORTS, Search
from rooftile.target import Target

_LOG = logging.getLogger("rooftile.tuning")

Unit: TypeAlias = tuple[Op, ...]
"""A region op, or several that share a launch: what is tuned as one."""


@dataclass(frozen=True)
class Measured:
    """What measurements say of the regions of a graph that is compiled for a device, with fp32 dots of ``precision``.

    ``sizes`` are values of run-time sizes, as far as they are known.
    """

    target: Target
    device: torch.device
    config: Config
    precision: str
    sizes: Mapping[str, int]

    def better(self, graph: Graph, sizes: Mapping[str, int] | None = None) -> dict[Op, Better]:
        """What is known, or is found out now, of the regions of a lowered graph, for other ``sizes`` if they are given.

        With a lock file nothing is timed. Without one, and if ``config.autotune`` says so, candidates are timed on a
        GPU; what is found is kept in the cache folder, where the next process finds it.

        Raises:
            OptionError: the lock file cannot be read.
        """
        regions = regions_of(graph)
        if self.config.lock is not None:
            here = self if sizes is None else replace(self, sizes=sizes)
            found = here.matching(self.locked, regions)
            _say_missing(self.config.lock, len(regions) - len(found), len(regions), device_key(self.target))
            return found
        if self.config.autotune == "none" or not regions:
            return {}
        if self.device.type != "cuda" or self.target.kind != "cuda":
            say_nothing_is_timed(self.device.type)
            return {}
        return self.autotuned(regions)

    @cached_property
    def locked(self) -> list[Entry]:
        """The entries of the lock file as it is at the first look: what happens to it later is for the next process."""
        return [] if self.config.lock is None else read_lock(self.config.lock)

    def matching(self, entries: Iterable[Entry], regions: Sequence[Op]) -> dict[Op, Better]:
        """What ``entries`` say of the regions; one that does not fit its region is left out, and logged, and so are
        those of regions that share its launch."""
        locked = Locked.of(entries, self.target)
        found: dict[Op, Better] = {}
        for unit in sharing(regions):
            held = {op: e for op in unit if (e := locked.entry(unit, op, self.precision, self.sizes)) is not None}
            if len(held) < len(unit):  # what shares a launch was measured together
                continue
            try:
                library = self.config.library
                found |= {
                    op: Better(choice_of(entry, op, self.target, library=library), _reason(entry))
                    for op, entry in held.items()
                }
            except Misfit as misfit:
                names = ", ".join(str(op.attrs["name"]) for op in unit)
                _LOG.warning("the entry for %s fits no more: %s", names, misfit)
        return found

    def autotuned(self, regions: Sequence[Op]) -> dict[Op, Better]:
        """What is kept of the regions in the cache folder, the rest being timed now and kept."""
        kind = self.config.autotune if self.config.library else f"{self.config.autotune}-generated"
        path = self.config.cache_dir / f"tuned-{kind}.lock"
        known = [e for e in _kept(path) if e.made_with == made_with()]
        here = {(e.region, tuple(e.sizes.items())) for e in known if e.device == device_key(self.target)}
        units = distinct(sharing(regions), self.precision)
        missing = [(u, self._sizes_of(u), times) for u, times in units.items() if not here.issuperset(self._places(u))]
        clock, effort = clock_for(self.target, self.device), EFFORTS[self.config.autotune]
        search = Search(self.target, self.device, self.config, self.precision, effort, clock)
        for outcome in search.run(missing):
            if outcome.microseconds is not None:
                known.append(entry_of(outcome, self.target, self.precision))
                _keep(path, known[-1])
        return self.matching(known, regions)

    def _places(self, unit: Unit) -> set[tuple[str, tuple[tuple[str, int], ...]]]:
        """Where the entries of the regions stand."""
        bucket = tuple(buckets(self._sizes_of(unit)).items())
        return {(key_in(unit, op, self.precision), bucket) for op in unit}

    def _sizes_of(self, unit: Unit) -> Mapping[str, int]:
        """A value for each of the regions' run-time sizes."""
        symbols = (s for op in unit for s in op.regions[0].size_symbols())
        return {s.name: self.sizes.get(s.name, _likely(s)) for s in symbols}


def regions_of(graph: Graph) -> list[Op]:
    """The regions of a lowered graph that every call runs: what is computed once, from weights alone, is not tuned."""
    return [op for op in graph.ops if op.name == "region" and not is_packed(op)]


def _kept(path: Path) -> list[Entry]:
    """What earlier processes have kept there; a damaged file is thrown away, as all that the cache can make again."""
    try:
        return read_lock(path) if path.exists() else []
    except OptionError as error:
        _LOG.warning("what was tuned before is damaged and found out again: %s", error.what)
        with suppress(OSError):
            path.unlink()
        return []


def _keep(path: Path, entry: Entry) -> None:
    try:
        update_lock(path, [entry])
    except OptionError as error:
        _say_not_kept(error.what)


@cache
def _say_not_kept(why: str) -> None:
    _LOG.warning("what is tuned holds for this process only: %s", why)


def _likely(s: Symbol) -> int:
    return max(s.lo, likely(of(s)) // s.divisor * s.divisor)


def _reason(entry: Entry) -> str:
    by = f"{', '.join(entry.library)}: " if entry.library else ""
    if entry.microseconds is None or entry.first_choice is None:
        return f"{by}chosen for {entry.device}"
    return f"{by}{entry.microseconds:.1f} us, the first choice {entry.first_choice:.1f} us, on {entry.device}"


def distinct(units: Iterable[Unit], precision: str) -> dict[Unit, int]:
    """The first of all units that compute the same, and how many of them there are."""
    found: dict[tuple[str, ...], tuple[Unit, int]] = {}
    for unit in units:
        key = tuple(key_in(unit, op, precision) for op in unit)
        first, count = found.get(key, (unit, 0))
        found[key] = first, count + 1
    return dict(found.values())


@cache
def _say_missing(path: Path, missing: int, regions: int, device: str) -> None:
    if missing:
        where = f"{path} has no entry for {missing} of {regions} kernels on {device}"
        _LOG.warning("%s: they keep the first choice (`rooftile tune --check` lists them)", where)


@cache
def say_nothing_is_timed(device: str) -> None:
    """Say once that autotuning while compiling is for GPUs."""
    _LOG.warning("nothing is timed on %s while compiling; `rooftile tune` does, where it is asked to", device)
