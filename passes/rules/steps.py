"""What rules say of themselves: the steps of a derivation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One application of a rule: what stood before and what stands after, as formulas over values."""

    rule: str
    before: str
    after: str
