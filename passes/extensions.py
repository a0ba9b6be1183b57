"""Passes and rules that a program has registered: where they stand in the pipeline, and which ops they look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rooftile.ir.core import Graph, Op
from rooftile.passes.base import Pass
from rooftile.passes.canonical.rewrite import Rule
from rooftile.passes.rules.steps import Step

# What becomes of a region's body where a reduction in it is in the way, and the steps that say so; None: nothing.
ReductionRule: TypeAlias = "Callable[[Graph, Op], tuple[Graph, tuple[Step, ...]] | None]"


@dataclass(frozen=True)
class Inserted:
    """A pass, and the name of the one that it follows."""

    run: Pass
    after: str


PASSES: list[Inserted] = []
RULES: dict[str, tuple[Rule, ...]] = {}  # of canonicalize, by what they look at
REDUCTION_RULES: dict[str, ReductionRule] = {}  # of derive, by name


def with_inserted(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """``passes`` with those registered in their places; several after one pass in the order of registration."""
    found = list(passes)
    for each in PASSES:
        place = next(n for n, p in enumerate(found) if p.name == each.after)
        while place + 1 < len(found) and any(found[place + 1] is e.run and e.after == each.after for e in PASSES):
            place += 1
        found.insert(place + 1, each.run)
    return tuple(found)


def is_registered(rule: Rule) -> bool:
    """Whether a rule of canonicalize is the program's own."""
    return any(rule in rules for rules in RULES.values())
