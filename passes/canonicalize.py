"""The pass ``canonicalize``: constants folded, views composed, equal ops joined, unused ones gone.

Before::

    %two = constant(value=2.0) : f32[]
    %e = expand(%two, dims=[]) : f32[4, 8]
    %sq = pointwise.pow(%x, %e) : f32[4, 8]
    %t = permute(%sq, perm=[1, 0]) : f32[8, 4]
    %u = permute(%t, perm=[1, 0]) : f32[4, 8]

After::

    %sq = pointwise.mul(%x, %x) : f32[4, 8]

Results in eager's dtypes stay what they are: nothing is re-associated, and no rounding is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rooftile.ir.core import Graph, Op
from rooftile.passes import extensions
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.casts import CAST_RULES
from rooftile.passes.canonical.counting import COUNTING_RULES
from rooftile.passes.canonical.indexing import INDEX_RULES
from rooftile.passes.canonical.intervals import INTERVAL_RULES
from rooftile.passes.canonical.repeated import REPEATED_RULES
from rooftile.passes.canonical.rewrite import Rule, Rules, rewrite, rule_name
from rooftile.passes.canonical.scalars import SCALAR_RULES
from rooftile.passes.canonical.uniform import UNIFORM_RULES
from rooftile.passes.canonical.views import VIEW_RULES

# Views vanish before what they hold is looked at, and numbers are folded before arithmetic is simplified.
_TABLES = (
    VIEW_RULES,
    UNIFORM_RULES,
    CAST_RULES,
    SCALAR_RULES,
    REPEATED_RULES,
    INDEX_RULES,
    COUNTING_RULES,
    INTERVAL_RULES,
)


def _joined(tables: tuple[Rules, ...]) -> Rules:
    joined: dict[str, tuple[Rule, ...]] = {}
    for table in tables:
        for key, rules in table.items():
            joined[key] = (*joined.get(key, ()), *rules)
    return joined


RULES = _joined(_TABLES)


@dataclass(frozen=True)
class Canonicalize:
    """Brings a graph into the form that later passes expect; see the module."""

    name: ClassVar[str] = "canonicalize"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The simplified graph; the same one where it is canonical already."""
        if not extensions.RULES:
            return rewrite(graph, RULES)

        def enter(rule: Rule, op: Op) -> None:
            if extensions.is_registered(rule):
                reason = f"%{op.output.name}: {(rule.__doc__ or rule_name(rule)).strip().splitlines()[0]}"
                ctx.ledger.add("rewritten", rule=rule_name(rule), values=[op.output.name], reason=reason, locs=[op.loc])

        return rewrite(graph, _joined((RULES, extensions.RULES)), enter)
