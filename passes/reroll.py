"""Pass ``reroll``: a sum whose terms are one expression at numbers in a row is a sum over an axis.

A loop that a model runs over experts, each with its part of a stacked weight and the tokens that chose its number, is
traced as so many terms. Along an axis they are what products of all experts at once would be, and what is known of
such sums serves both. Before and after::

    %w_0 = slice(%w, starts=[0, 0, 0], steps=[1, 1, 1]) : f32[1, 16, 8]
    %y_0 = contract[i, j, k](%x[i, k], %w_0[0, k, j], out=[i, j])
    ...
    %s = pointwise.add(%y_0, %y_1)

    %y = contract[e, i, j, k](%x[i, k], %w[e, k, j], out=[e, i, j])
    %s = reduce.sum(%y, dims=[0])

That is done where `chosen` then finds terms that are zero, and leaves them out. Of others, all of which are needed, the
products would have to be stored side by side before they are summed; one by one, each is added to those before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, TypeAlias

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.chosen import better
from rooftile.passes.editing import replaced
from rooftile.passes.rules.unrolled import AlongAxis, NotAlike, Shapes
from rooftile.passes.switches import permitted

Users: TypeAlias = Mapping[Value, list[Op]]

FEWEST = 3  # terms: two of a kind are mostly branches of a model, and not told of


@dataclass(frozen=True)
class Reroll:
    """Sums terms that are alike over an axis."""

    name: ClassVar[str] = "reroll"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with such sums over axes; the same one where there are none."""
        producers, users = graph.producers(), graph.users()
        shapes: Shapes | None = None
        for op in [op for op in graph.ops if _is_sum(op) and not _is_part(op, graph, users)]:
            terms = _terms(op, graph, producers, users)
            if len(terms) < FEWEST:
                continue
            shapes = shapes or Shapes(graph)
            alike = _largest_group(terms, shapes)
            if len(alike) < FEWEST or not permitted("", op.output, op.loc):
                continue
            try:
                with working_on(op):
                    summed = rewrite(_summed(graph, op, terms, alike, producers), RULES)
            except NotAlike as why:
                _leave(ctx, op, alike, f"{why}; as parts of one tensor's first dimension, only those needed would be")
                continue
            if not _has_zeros(summed, graph):
                _leave(ctx, op, alike, "too few of them are known to be zero")
                continue
            graph = summed
            reason = f"%{op.output.name} is a sum of {len(alike)} terms at numbers in a row: one sum over an axis"
            ctx.ledger.add("rewritten", rule="reroll", values=[op.output.name], reason=reason, locs=[op.loc])
            producers, users, shapes = graph.producers(), graph.users(), None
        return graph


def _leave(ctx: PassContext, op: Op, alike: tuple[Value, ...], why: str) -> None:
    reason = f"all {len(alike)} terms of %{op.output.name} are computed, one by one: {why}"
    ctx.ledger.add("cut", rule="reroll", values=[op.output.name], reason=reason, locs=[op.loc])


def _has_zeros(summed: Graph, before: Graph) -> bool:
    """Whether a sum that was not there before has terms that can be left out."""
    known, producers = set(before.ops), summed.producers()
    sums = (op for op in summed.ops if op.name in ("contract", "reduce") and op not in known)
    return any(better(summed, op, producers) is not None for op in sums if op.output.dtype.is_float)


def _is_sum(op: Op) -> bool:
    return op.name == "pointwise" and op.attrs["fn"] == "add" and op.output.dtype.is_float


def _is_part(op: Op, graph: Graph, users: Users) -> bool:
    """Whether all that becomes of a sum is that another one adds to it."""
    readers = users.get(op.output, [])
    return len(readers) == 1 and _is_sum(readers[0]) and op.output not in graph.outputs


def _terms(op: Op, graph: Graph, producers: Mapping[Value, Op], users: Users) -> list[Value]:
    """What a sum of sums adds up, from left to right."""
    found: list[Value] = []
    stack = list(reversed(op.inputs))
    while stack:
        x = stack.pop()
        made = producers.get(x)
        if made is not None and _is_sum(made) and _is_part(made, graph, users):
            stack.extend(reversed(made.inputs))
        else:
            found.append(x)
    return found


def _largest_group(terms: list[Value], shapes: Shapes) -> tuple[Value, ...]:
    """The terms that are most often alike, of those with products."""
    groups: dict[int, list[Value]] = {}
    for x in terms:
        groups.setdefault(shapes.of[x], []).append(x)
    products = (tuple(alike) for shape, alike in groups.items() if shape in shapes.with_products)
    return max(products, key=len, default=())


def _summed(graph: Graph, op: Op, terms: list[Value], alike: tuple[Value, ...], producers: Mapping[Value, Op]) -> Graph:
    def make(builder: GraphBuilder) -> None:
        along = AlongAxis(builder, producers, len(alike)).of(alike)
        others = [x for x in terms if x not in alike]
        total = builder.reduce("sum", along, [0])
        reduce(lambda a, b: builder.pointwise("add", a, b), [*others, total])

    return replaced(graph, op, make)
