"""Pass ``chosen``: of a sum whose terms are multiplied by zero but at chosen positions, only these are computed.

A matrix of gates that is zero but for a few entries of each row, and what is summed under it: neither is made. The
comparisons of positions with an index, from which such a gate comes, say which terms there are. Before and after, where
``%same`` is one where ``%index`` is the summed position::

    %gate = reduce.sum(%same * %w, dims=[1]) : f32[t, e]
    %h = contract[e, t, n, d](%x[t, d], %m[e, d, n], out=[e, t, n])
    %y = reduce.sum(%h * %gate, dims=[0]) : f32[t, n]

    %m_i = gather[t, k, d, n](%m[idx1, d, n], %index[t, k])
    %h_i = contract[t, k, n, d](%x[t, d], %m_i[t, k, d, n], out=[t, k, n])
    %y = reduce.sum(%h_i * %w, dims=[1]) : f32[t, n]

Only where that saves most of the products. What is not computed is not read, so a NaN in it does not spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.liveness import needed_without
from rooftile.passes.rules.chosen_terms import ChosenTerms
from rooftile.passes.rules.deltas import Delta, deltas
from rooftile.passes.rules.products import product_of
from rooftile.passes.switches import permitted

FEWER = 2  # how many times fewer products must be left: rows that read matrices of their own take some bookkeeping


@dataclass(frozen=True)
class Chosen:
    """Computes the terms of sums that are not multiplied by zero."""

    name: ClassVar[str] = "chosen"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with sums over chosen terms; the same one where no sum is of that kind."""
        producers = graph.producers()
        for output in [op.output for op in graph.ops if op.name in ("contract", "reduce")]:
            op = producers.get(output)
            found = better(graph, op, producers) if op is not None and output.dtype.is_float else None
            if op is None or found is None or not permitted("", output, op.loc):
                continue
            graph, producers = found.graph, found.graph.producers()
            reason = f"%{output.name} takes {found.fewer} products: only terms at %{found.index.name} are not zero"
            ctx.ledger.add("rewritten", rule="delta", values=[output.name], reason=reason, locs=[op.loc])
        return graph


@dataclass(frozen=True)
class Better:
    """The graph with a sum over the terms that ``index`` chooses, and how many ``fewer`` products that takes."""

    graph: Graph
    index: Value
    fewer: str


def better(graph: Graph, op: Op, producers: Mapping[Value, Op]) -> Better | None:
    """The graph without the terms of the sum ``op`` that are zero; None where that saves too little."""
    whole = product_of(op)
    if whole is None:
        return None
    for summed in (name for name in whole.axes if name not in whole.out and whole.axes[name] != 1):
        for delta in deltas(op, summed, whole.axes, producers):
            with working_on(op):
                changed = _over_chosen(graph, op, summed, delta, producers)
            if changed is None:
                continue
            before, after = _work(graph, changed, ("contract",)), _work(changed, graph, ("contract", "reduce"))
            if before and before >= FEWER * after:
                fewer = f"{before / after:.0f} times fewer" if after else "no"
                return Better(changed, delta.index, fewer)
    return None


def _over_chosen(graph: Graph, op: Op, summed: str, delta: Delta, producers: Mapping[Value, Op]) -> Graph | None:
    terms = ChosenTerms(op, summed, delta, producers, needed_without(graph, op))
    changed = terms.instead(graph)
    return None if changed is None else rewrite(changed, RULES)


def _work(graph: Graph, other: Graph, kinds: tuple[str, ...]) -> int:
    """How many products the sums of these ``kinds`` take that ``graph`` has and ``other`` has not."""
    known = set(other.ops)
    found = [product_of(op) for op in graph.ops if op.name in kinds and op not in known]
    return sum(product.work(product.axes) for product in found if product is not None)
