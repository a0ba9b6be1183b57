"""Entries keep the order of the decisions and the user's lines."""

from __future__ import annotations

from rooftile.ir.core import UNKNOWN, Loc
from rooftile.passes.ledger import Entry, Ledger


def test_entries_in_order_with_sources_once_each() -> None:
    ledger = Ledger()
    first = ledger.add(
        "fused", rule="cost", values=["a", "b"], reason="saves a round trip", bytes=64, locs=[Loc("m", "f.py", 3)] * 2
    )
    second = ledger.add("cut", rule="correct", values=["c"], reason="needs a second sweep", locs=[UNKNOWN])
    assert first == Entry("fused", "cost", ("a", "b"), "saves a round trip", 64, ("f.py:3",))
    assert second.sources == () and second.bytes is None
    assert list(ledger) == [first, second]
    assert ledger.of("cut", "extern") == [second]
    assert len(ledger) == 2
