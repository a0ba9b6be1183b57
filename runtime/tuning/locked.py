"""From a schedule to an entry of the lock file, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import log2
from types import MappingProxyType
from typing import Any

from rooftile import __version__
from rooftile.ir.core import Op
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.regions.contractions import SMALLEST_DOT
from rooftile.passes.regions.sizes import LIKELY_SIZE, likely, next_power
from rooftile.passes.reschedule import Choice
from rooftile.passes.schedules.library import Library, libraries_of
from rooftile.passes.splitting.choice import InParts, part_ops
from rooftile.runtime.cache_key import triton_version
from rooftile.runtime.tuning.lock import Entry, device_key, region_key
from rooftile.runtime.tuning.unit import Outcome
from rooftile.target import Target

# Fields of a schedule that an entry has in a form of its own; the axes' definitions are the region's, not a choice.
_NOT_OPTIONS = frozenset({"axes", "defs", "grid", "group"})
_ANY_NUMBER = frozenset({"num_stages"})  # other numbers are powers of two
MOST_WARPS = 32  # of a program, on any GPU


class Misfit(ValueError):
    """An entry that its region's axes do not have the form for (any more)."""


def made_with() -> str:
    """The versions that decide what is fast."""
    return f"rooftile {__version__}, triton {triton_version()}"


def entry_of(outcome: Outcome, target: Target, precision: str) -> Entry:
    """What the lock file holds of an outcome."""
    return Entry(
        name=str(outcome.op.attrs["name"]),
        region=key_in(outcome.unit, outcome.op, precision),
        device=device_key(target),
        **_choice(outcome.schedule),
        sizes=buckets(outcome.sizes),
        microseconds=outcome.microseconds,
        first_choice=outcome.first_microseconds,
        made_with=made_with(),
    )


def key_in(unit: Sequence[Op], op: Op, precision: str) -> str:
    """What ``op`` is known by: one of the regions ``unit``, which share a launch, or the only one."""
    beside = [each.regions[0] for each in unit] if len(unit) > 1 else []
    return region_key(op.regions[0], precision, beside)


def _choice(choice: Choice) -> dict[str, Any]:
    if isinstance(choice, Library):
        return {"library": choice.calls}
    if isinstance(choice, InParts):
        return {"parts": choice.count}
    options = {"num_warps": choice.num_warps, "num_stages": choice.num_stages} | choice.options()
    axes = tuple(_axis_text(a) for a in choice.axes)
    return {"axes": axes, "grid": choice.grid, "group": choice.group, "options": options}


def buckets(sizes: Mapping[str, int]) -> dict[str, int]:
    """The bucket that run-time sizes are in: the powers of two that are not below them, by name."""
    return {name: next_power(size) for name, size in sorted(sizes.items())}


def _axis_text(axis: AxisRole) -> str:
    return f"{axis.name}: {axis.role} {axis.tile}"


def choice_of(entry: Entry, op: Op, target: Target, *, library: bool = True) -> Choice:
    """What an entry says of a region op that has its first choice.

    Raises:
        Misfit: the region has another form now, or it is a library's, and ``library`` is off.
    """
    if entry.parts is not None:
        if not part_ops(op, entry.parts, target, ()):
            raise Misfit(f"it is for a sweep in {entry.parts} parts, into which the region's can't be cut")
        return InParts(entry.parts)
    if not entry.library:
        return schedule_of(entry, Schedule.from_attrs(op.attrs))
    calls = ", ".join(entry.library)
    if not library:
        raise Misfit(f"it is for {calls}, and libraries are off")
    if Library(entry.library) not in libraries_of(op, target):
        raise Misfit(f"it is for {calls}, which is not what the region computes")
    return Library(entry.library)


def schedule_of(entry: Entry, first: Schedule) -> Schedule:
    """The schedule that an entry says, for a region whose first choice is ``first``.

    Axes are matched by their order, since their names are the model's.

    Raises:
        Misfit: the region has other axes, or an option is unknown.
    """
    names: dict[str, str] = {}
    axes: list[AxisRole] = []
    if len(entry.axes) != len(first.axes):
        raise Misfit(f"it has {len(entry.axes)} axes, the region {len(first.axes)}")
    for text, axis in zip(entry.axes, first.axes, strict=True):
        name, _, rest = text.partition(": ")
        role, _, tile = rest.partition(" ")
        if role != axis.role or not (tile.isascii() and tile.isdecimal()) or int(tile) not in _tiles_of(axis):
            raise Misfit(f"{text!r} is no role of {axis.name}, which is {axis.role} there")
        names[name] = axis.name
        axes.append(replace(axis, tile=int(tile)))
    usual = {f.name: f.default for f in fields(Schedule) if f.name not in _NOT_OPTIONS}
    strange = [name for name, value in entry.options.items() if type(value) is not type(usual.get(name))]
    if strange:
        raise Misfit(f"there is no option {strange[0]} = {entry.options[strange[0]]}")
    for name, value in entry.options.items():
        if name not in _ANY_NUMBER and next_power(value) != value:
            raise Misfit(f"{name} = {value} is no power of two")
    if entry.options.get("num_warps", 1) > MOST_WARPS:
        raise Misfit(f"a program has at most {MOST_WARPS} warps")
    try:
        grid = tuple(names[name] for name in entry.grid)
        group = None if entry.group is None else (names[entry.group[0]], entry.group[1])
    except KeyError as missing:
        raise Misfit(f"it has no axis {missing.args[0]}") from None
    if sorted(grid) != sorted(first.grid):
        raise Misfit(f"its grid is {', '.join(grid)}, the region's {', '.join(first.grid)}")
    if group is not None and group[0] not in grid:
        raise Misfit(f"it groups tiles of {group[0]}, which is not on the grid")
    return Schedule(tuple(axes), first.defs, grid, group, **(usual | dict(entry.options)))  # type: ignore[arg-type]


def _tiles_of(axis: AxisRole) -> list[int]:
    """The tiles that an axis may have: what is whole has no choice, and no other is longer than it needs to be."""
    if axis.role == "whole":
        return [axis.tile]
    most = max(axis.tile, SMALLEST_DOT, next_power(likely(axis.extent)))
    return [1 << n for n in range(most.bit_length())]


@dataclass(frozen=True)
class Locked:
    """The entries for one device."""

    entries: Mapping[str, tuple[Entry, ...]]

    @staticmethod
    def of(entries: Iterable[Entry], target: Target) -> Locked:
        """Those of ``entries`` that are for ``target``, by region."""
        found: dict[str, tuple[Entry, ...]] = {}
        for entry in entries:
            if entry.device == device_key(target):
                found[entry.region] = (*found.get(entry.region, ()), entry)
        return Locked(found)

    def entry(
        self, unit: Sequence[Op], op: Op, precision: str, sizes: Mapping[str, int] = MappingProxyType({})
    ) -> Entry | None:
        """The entry for a region op, one of ``unit``, which share a launch; of several, for run-time sizes, the one
        nearest to ``sizes``, or for sizes that are not known to those that one plans for."""
        found = self.entries.get(key_in(unit, op, precision), ())
        return min(found, key=lambda entry: _distance(entry, buckets(sizes)), default=None)


def _distance(entry: Entry, wanted: Mapping[str, int]) -> float:
    return sum(abs(log2(size / wanted.get(name, LIKELY_SIZE))) for name, size in entry.sizes.items())
