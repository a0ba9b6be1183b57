"""A budget for each rewrite: what adds more error than that is left out, at the places where it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rooftile.blame.data import BlameRow
from rooftile.blame.parts import IN_KERNELS, STRUCTURE, Parts
from rooftile.passes.manager import REQUIRED
from rooftile.passes.switches import Switches

MOST_PLACES = 32  # of a rewrite, each of which is tried by itself


def over_budget(parts: Parts, rows: Sequence[BlameRow], budget: float) -> Iterator[tuple[BlameRow, tuple[str, ...]]]:
    """The rows that exceed ``budget``, or are wrong, each with the names to leave out for that."""
    exceeding = [row for row in rows if (row.wrong or row.adds > budget) and row.kind != "kernel"]
    for row in exceeding:
        inside = [r for r in exceeding if r.kind == "rewrite" and r.name.startswith(f"{row.name}/")]
        if row.kind == "pass" and (inside or row.name in REQUIRED):
            continue  # its rewrites say it closer, or it cannot be left out
        yield replace(row, off=True), _places(parts, row, budget) or (row.name,)


def _places(parts: Parts, row: BlameRow, budget: float) -> tuple[str, ...]:
    """The places of a rewrite that exceed the budget by themselves; none where only all together do."""
    name, _, rule = row.name.partition("/")
    numbers = [n for n, each in enumerate(parts.trial.passes) if each.name == name]
    if not rule or not numbers or row.name in IN_KERNELS:
        return ()
    trial, number = parts.trial, numbers[0]
    places = dict.fromkeys(a.place for a in trial.switches.asked if a.rewrite == row.name and a.done)
    if not 1 < len(places) <= MOST_PLACES:
        return tuple(places)
    before = trial.stages[number].graph
    found = []
    for place in places:
        only = frozenset({place, *(s for s in STRUCTURE if s.startswith(f"{name}/"))})
        alone = parts.row(place, "rewrite", (), before, trial.alone(number, Switches(trial.switches.off, only)))
        if alone.wrong or alone.adds > budget:
            found.append(place)
    return tuple(found)
