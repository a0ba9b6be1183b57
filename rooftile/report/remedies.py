"""What would change a decision: one sentence for each decision and rule under which something was not done."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rooftile.passes.ledger import Entry

_COST = (
    "The model prices both ways for the target: other sizes or another target (--target) may turn it; where a "
    "measurement disagrees, the model is wrong: say so in an issue."
)

_REMEDIES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("cut", "cost"): _COST,
        ("cut", "recompute"): "Each reader would compute it again. One reader, or readers that run over the same axes "
        "(concatenated weights, heads side by side), let it stay on chip.",
        ("cut", "roles"): "A tile must hold the axis that is named, or so many contractions at once: a smaller extent "
        "(a head size rather than the whole width), or fewer contractions in a row, would.",
        ("cut", "correct"): "The running result cannot be corrected when the inner reduction changes. A reduction "
        "that enters as a factor, a shift of a maximum or inside exp can be.",
        ("cut", "split"): "The contractions don't share their result axes. Equal shapes, such as one weight for gate "
        "and up with the same width, would let them run side by side.",
        ("cut", "axes"): "The results have no iteration space in common, mostly for a reshape that mixes axes: views "
        "that split or merge whole axes don't.",
        ("cut", "merge"): "The states of parts can't be merged: the reason names the reduction.",
        ("recomputed", "roles"): "The row is too long for a tile, so it is read once more: a shorter row would be "
        "held whole.",
        ("recomputed", "correct"): "What is computed in the first sweep enters in a form that can't be corrected "
        "later, so the row is read once more.",
        ("recomputed", "cost"): _COST,
        (
            "extern",
            "import",
        ): "Write it with ops that have a row in the import table, or add a row to that (docs/adding-an-op.md).",
        ("split", "merge"): "The partial states are the price for filling the device; with more rows or heads "
        "there are programs enough.",
    }
)


def remedy(entry: Entry) -> str:
    """What would change ``entry``; empty where the decision is a gain, or nothing is known."""
    return _REMEDIES.get((entry.decision, entry.rule), "")
