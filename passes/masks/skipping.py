"""Which steps of a sweep may be skipped: those in which every reduction gets nothing but elements that count as none.

A condition that something depends on is tried false (and true): where then every element of a reduction is the
combine's identity, the reduction needs only the other steps. Numbers that are loaded are tried as what hides an element
where they are added (a number so low that nothing is left beside it) or multiplied (zero). A finite fill is an identity
only next to a maximum that lies far enough above it; then the steps are skipped by programs whose maxima do so in the
end, and run by the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from rooftile.ir.dtypes import F16
from rooftile.ir.expr import axis as axis_of
from rooftile.passes.masks.predicates import Predicate, Predicates, Unknown, all_of, some_of
from rooftile.passes.masks.values import Interval, Values
from rooftile.passes.regions.access import Access, Read, is_extreme
from rooftile.passes.regions.contractions import loads_of_contractions
from rooftile.passes.regions.forms import below

MARGIN = 160.0  # exp and exp2 of less than its negative are 0 in fp32
RELATIVE_MARGIN = 1e-6  # what is closer to a large number is lost in its rounding
DEEP = 1000.0  # a fill that is nearer to 0 lies among the values that it is to be told from
HIDES = -1e38  # a number that is loaded and at most this hides what it is added to: -inf, or the lowest of fp32 or bf16


@dataclass(frozen=True)
class Mask:
    """What a value hides, if something. Elements for which ``read`` lies in ``hidden`` are; ``shown`` says that it
    doesn't, ``bare`` that it is ``neutral``, as good as absent."""

    read: Read
    hidden: Interval
    shown: Predicate
    neutral: float
    bare: Predicate


@dataclass(frozen=True)
class Skipping:
    """``live``: where a step counts. ``masks``: what hides elements of the others, by the value, for steps in which
    they are neutral throughout. ``reached``: the maxima (minima) that must have reached a value, for the rest to be
    skipped."""

    live: Predicate
    masks: Mapping[Read, Mask]
    reached: Mapping[Read, Interval]


def skipping(
    access: Access, members: Sequence[Read], axis: str, predicates: Predicates, *, numbers: bool = False
) -> Skipping | None:
    """Which steps over ``axis`` the reductions ``members``, which share its sweep, need; None where that is all.

    ``numbers`` that are loaded are tried beside conditions: that takes a look at them.
    """
    needed: list[dict[Read, Mask]] = [{} for _ in members]
    reached: dict[Read, Interval] = {}
    found = _conditions(access, members, axis, predicates)
    for mask in (*found, *(_loaded_numbers(access, members, axis) if numbers else ())):
        absent, levels = _absent(access, members, axis, {mask.read: mask.hidden})
        if mask.read.value.dtype.kind != "bool" and not all(absent):
            continue
        reached |= {r: _stricter(level, reached.get(r, level)) for r, level in levels.items()}
        for masks, is_absent in zip(needed, absent, strict=True):
            if is_absent:
                masks.setdefault(mask.read, mask)
    if not all(needed):
        return None
    alternatives = dict.fromkeys(tuple(masks.values()) for masks in needed)
    live = some_of(*(all_of(*(mask.shown for mask in each)) for each in alternatives))
    return Skipping(live, {read: mask for masks in needed for read, mask in masks.items()}, reached)


def _stricter(a: Interval, b: Interval) -> Interval:
    return (max(a[0], b[0]), min(a[1], b[1]))


def _conditions(access: Access, members: Sequence[Read], axis: str, predicates: Predicates) -> Iterator[Mask]:
    """The booleans along ``axis`` from which something else than a boolean is computed on the way to ``members``. One
    that varies over a sweep inside a step says nothing about the step."""
    reads = _below(access, members)
    inside = {name for read in reads for name in access.nodes[read].bound} - {axis}
    found: dict[Read, None] = {}
    for read in access.nodes:
        if read in reads and read.value.dtype.kind != "bool":
            for operand in access.nodes[read].operands:
                over = access.free[operand]
                if operand.value.dtype.kind == "bool" and axis in over and inside.isdisjoint(over):
                    found[operand] = None
    for condition in found:
        for fails in (False, True):
            shown = predicates.that(condition, not fails)
            yield Mask(condition, (float(fails), float(fails)), shown, float(not fails), shown)


def _loaded_numbers(access: Access, members: Sequence[Read], axis: str) -> Iterator[Mask]:
    """Numbers that are loaded for each element, or row or column of elements, and that may hide some: beside an extreme
    a zero may, where it makes a fill; in sums and products alone it is a number like any other."""
    reads = _below(access, members) - loads_of_contractions(access)
    inside = {name for read in _below(access, members) for name in access.nodes[read].bound} - {axis}
    extremes = any(is_extreme(access.nodes[m]) for m in members)
    for read in access.loads():
        dtype = read.value.dtype
        over = access.free[read] if read in reads and dtype.kind != "bool" and _is_plain(access, read) else frozenset()
        if axis not in over or not inside.isdisjoint(over):
            continue
        if dtype.is_float:
            most = -inf if dtype is F16 else HIDES
            yield Mask(read, (-inf, most), Unknown(read, True, ("le", most)), 0.0, Unknown(read, False, ("eq", 0.0)))
        if extremes:
            yield Mask(read, (0.0, 0.0), Unknown(read, True, ("eq", 0.0)), 1.0, Unknown(read, False, ("eq", 1.0)))


def _is_plain(access: Access, read: Read) -> bool:
    """Whether each dimension is read along one axis, as a mask's is."""
    axes = [axis_of(name, extent) for name, extent in access.axes.items()]
    return not read.guard and all(isinstance(e, int) or e in axes for e in read.index)


def _below(access: Access, members: Sequence[Read]) -> set[Read]:
    return {read for member in members for read in below(access, member)} | set(members)


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
        node = values.access.nodes[member]
        if node.op is None or not is_extreme(node):
            continue
        low, high = values.interval(node.operands[0])
        if node.op.attrs["fn"] == "max" and -inf < high < -DEEP:
            found[member] = (high + max(MARGIN, abs(high) * RELATIVE_MARGIN), inf)
        elif node.op.attrs["fn"] == "min" and DEEP < low < inf:
            found[member] = (-inf, low - max(MARGIN, abs(low) * RELATIVE_MARGIN))
    return found
