"""The ledger: every decision that the passes take, with its reason, the bytes it moves and the user's lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rooftile.ir.core import Loc
from rooftile.ir.expr import Size

Decision: TypeAlias = Literal[
    "fused",
    "cut",
    "hoisted",
    "recomputed",
    "copied",
    "in place",
    "library",
    "compiled again",
    "extern",
    "rescheduled",
    "reassociated",
    "split",
    "rewritten",
    "packed",
    "summarized",
]

Remark: TypeAlias = tuple[Decision, str, str, Loc]  # what was decided before the passes, its rule and reason, and where


@dataclass(frozen=True)
class Entry:
    """One decision.

    ``rule`` names what decided (a rule of the algebra, ``"cost"`` or ``"memory"``), ``values`` the values it is about,
    ``bytes`` how many bytes of device memory traffic it saves (negative: costs; None: not known), ``sources`` the
    user's ``file:line`` that it goes back to.
    """

    decision: Decision
    rule: str
    values: tuple[str, ...]
    reason: str
    bytes: Size | None = None
    sources: tuple[str, ...] = ()


class Ledger:
    """Entries in the order in which they were decided; passes append to it and nothing takes entries away."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(
        self,
        decision: Decision,
        *,
        rule: str,
        values: Iterable[str],
        reason: str,
        bytes: Size | None = None,
        locs: Iterable[Loc] = (),
    ) -> Entry:
        """Enter a decision and return its entry; the sources of ``locs`` are kept once each, in order."""
        sources = tuple(dict.fromkeys(loc.source for loc in locs if loc.source))
        entry = Entry(decision, rule, tuple(values), reason, bytes, sources)
        self.enter(entry)
        return entry

    def enter(self, entry: Entry) -> None:
        """Enter what is an entry already."""
        self._entries.append(entry)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, *decisions: Decision) -> list[Entry]:
        """The entries with one of these decisions."""
        return [entry for entry in self._entries if entry.decision in decisions]
