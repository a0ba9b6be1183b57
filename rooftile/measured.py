"""Schedules other than the model's first choices: from a lock file, or from timing candidates while compiling."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch

from rooftile.config import Config
from rooftile.ir.core import Graph, Op
from rooftile.ir.expr import of
from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.sizes import likely
from rooftile.passes.reschedule import Better
from rooftile.runtime.tuning.clocks import clock_for
from rooftile.runtime.tuning.lock import Entry, device_key, read_lock, region_key, update_lock
from rooftile.runtime.tuning.locked import Locked, Misfit, entry_of, made_with, schedule_of
from rooftile.runtime.tuning.search import EFFORTS, Search
from rooftile.target import Target

_LOG = logging.getLogger("rooftile.tuning")


def better_schedules(
    graph: Graph, target: Target, device: torch.device, config: Config, precision: str
) -> dict[Op, Better]:
    """What is known, or is found out now, of the regions of a lowered graph.

    With a lock file nothing is timed. Without one, and if ``config.autotune`` says so, candidates are timed on a GPU;
    what is found is kept in the cache folder, where the next process finds it.

    Raises:
        OptionError: the lock file cannot be read.
    """
    regions = [op for op in graph.ops if op.name == "region"]
    if config.lock is not None:
        entries = read_lock(config.lock)
        found = matching(entries, regions, target, precision)
        _say_missing(config.lock, len(regions) - len(found), len(regions), device_key(target))
        return found
    if config.autotune == "none" or not regions:
        return {}
    if device.type != "cuda" or target.kind != "cuda":
        say_nothing_is_timed(device.type)
        return {}
    return _autotuned(regions, target, device, config, precision)


def matching(entries: Iterable[Entry], regions: Sequence[Op], target: Target, precision: str) -> dict[Op, Better]:
    """What ``entries`` say of the regions; one that does not fit its region is left out, and logged."""
    locked = Locked.of(entries, target)
    found: dict[Op, Better] = {}
    for op in regions:
        entry = locked.entry(op, precision)
        try:
            if entry is not None:
                found[op] = Better(schedule_of(entry, Schedule.from_attrs(op.attrs)), _reason(entry))
        except Misfit as misfit:
            _LOG.warning("the entry for %s fits no more: %s", op.attrs["name"], misfit)
    return found


def _reason(entry: Entry) -> str:
    if entry.microseconds is None or entry.first_choice is None:
        return f"chosen for {entry.device}"
    return f"{entry.microseconds:.1f} us, the first choice {entry.first_choice:.1f} us, on {entry.device}"


def _autotuned(
    regions: Sequence[Op], target: Target, device: torch.device, config: Config, precision: str
) -> dict[Op, Better]:
    path = config.cache_dir / f"tuned-{config.autotune}.lock"
    known = [e for e in _kept(path) if e.made_with == made_with()]
    missing = [op for op in distinct(regions, precision) if op not in matching(known, regions, target, precision)]
    search = Search(target, device, config, precision, EFFORTS[config.autotune], clock_for(target, device))
    for outcome in search.run([(op, likely_sizes(op)) for op in missing]):
        if outcome.microseconds is not None:
            entry = entry_of(outcome, target, precision)
            known.append(entry)
            update_lock(path, [entry])
    return matching(known, regions, target, precision)


def _kept(path: Path) -> list[Entry]:
    return read_lock(path) if path.exists() else []


def distinct(regions: Iterable[Op], precision: str) -> Iterator[Op]:
    """The first of every group of regions that compute the same."""
    seen: set[str] = set()
    for op in regions:
        key = region_key(op.regions[0], precision)
        if key not in seen:
            seen.add(key)
            yield op


def likely_sizes(op: Op) -> Mapping[str, int]:
    """A value for each of a region's run-time sizes."""
    return {s.name: max(s.lo, likely(of(s)) // s.divisor * s.divisor) for s in op.regions[0].size_symbols()}


@cache
def _say_missing(path: Path, missing: int, regions: int, device: str) -> None:
    if missing:
        where = f"{path} has no entry for {missing} of {regions} kernels on {device}"
        _LOG.warning("%s: they keep the first choice (`rooftile tune --check` lists them)", where)


@cache
def say_nothing_is_timed(device: str) -> None:
    """Say once that autotuning while compiling is for GPUs."""
    _LOG.warning("nothing is timed on %s while compiling; `rooftile tune` does, where it is asked to", device)
