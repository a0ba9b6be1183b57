"""Which steps of a sweep may be skipped: those in which every reduction gets nothing but elements that count as none.

A condition that something depends on is tried false (and true): where then every element of a reduction is the
combine's identity, the reduction needs only the other steps. A finite fill is an identity only next to a maximum that
lies far enough above it; then the steps are skipped by programs whose maxima do so in the end, and run by the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from rooftile.passes.masks.predicates import All, Predicate, Predicates, Some
from rooftile.passes.masks.values import Interval, Values
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.forms import below

MARGIN = 160.0  # exp and exp2 of less than its negative are 0 in fp32
RELATIVE_MARGIN = 1e-6  # what is closer to a large number is lost in its rounding
DEEP = 1000.0  # a fill that is nearer to 0 lies among the values that it is to be told from


@dataclass(frozen=True)
class Skipping:
    """``live``: where a step counts. ``settled``: conditions with what they are where it does, for steps in which
    ``live`` holds throughout. ``reached``: the maxima (minima) that must have reached a value, for the rest to be
    skipped."""

    live: Predicate
    settled: Mapping[Read, bool]
    reached: Mapping[Read, Interval]


def skipping(access: Access, members: Sequence[Read], axis: str, predicates: Predicates) -> Skipping | None:
    """Which steps over ``axis`` the reductions ``members``, which share its sweep, need; None where that is all."""
    needed: list[dict[Read, bool]] = [{} for _ in members]
    reached: dict[Read, Interval] = {}
    for condition in _conditions(access, members, axis):
        for fails in (False, True):
            absent, levels = _absent(access, members, axis, {condition: (float(fails), float(fails))})
            reached |= levels
            for conditions, is_absent in zip(needed, absent, strict=True):
                if is_absent:
                    conditions.setdefault(condition, not fails)
    if not all(needed):
        return None
    settled = {condition: holds for conditions in needed for condition, holds in conditions.items()}
    alternatives = dict.fromkeys(tuple(conditions.items()) for conditions in needed)
    live = [All(tuple(predicates.that(c, holds) for c, holds in each)) for each in alternatives]
    return Skipping(live[0] if len(live) == 1 else Some(tuple(live)), settled, reached)


def _conditions(access: Access, members: Sequence[Read], axis: str) -> list[Read]:
    """The booleans along ``axis`` from which something else than a boolean is computed on the way to ``members``. One
    that varies over a sweep inside a step says nothing about the step."""
    reads = {read for member in members for read in below(access, member)} | set(members)
    inside = {name for read in reads for name in access.nodes[read].bound} - {axis}
    found: dict[Read, None] = {}
    for read in access.nodes:
        if read in reads and read.value.dtype.kind != "bool":
            for operand in access.nodes[read].operands:
                over = access.free[operand]
                if operand.value.dtype.kind == "bool" and axis in over and inside.isdisjoint(over):
                    found[operand] = None
    return list(found)


def _absent(
    access: Access, members: Sequence[Read], axis: str, assumed: dict[Read, Interval]
) -> tuple[list[bool], dict[Read, Interval]]:
    """Whether each member gets nothing where ``assumed`` is so, and what maxima must have reached for that."""
    values = Values(access, axis, assumed)
    absent = [values.adds_nothing(member) for member in members]
    levels = _levels(values, members)
    if all(absent) or not levels:
        return absent, {}
    beside = Values(access, axis, assumed | levels)
    return ([True] * len(members), levels) if all(beside.adds_nothing(m) for m in members) else (absent, {})


def _levels(values: Values, members: Sequence[Read]) -> dict[Read, Interval]:
    """For each maximum whose elements have a large negative fill, what it must reach for them to vanish beside it; for
    minima the opposite."""
    found: dict[Read, Interval] = {}
    for member in members:
        op = values.access.nodes[member].op
        assert op is not None
        if op.name != "reduce" or op.attrs["fn"] not in ("max", "min"):
            continue
        low, high = values.interval(values.access.nodes[member].operands[0])
        if op.attrs["fn"] == "max" and -inf < high < -DEEP:
            found[member] = (high + max(MARGIN, abs(high) * RELATIVE_MARGIN), inf)
        elif op.attrs["fn"] == "min" and DEEP < low < inf:
            found[member] = (-inf, low - max(MARGIN, abs(low) * RELATIVE_MARGIN))
    return found
