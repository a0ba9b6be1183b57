"""Pass ``substitution``: rows that are each computed from the rows before them are the solution of a system.

A loop that substitutes forwards, a row at a time, is traced as one sum for each row, over all that was computed before:
as many kernels one after another, each of another size. ATen solves the system in one call. Before and after, of
matrices ``[i, j]``::

    %s_2 = reduce.sum(pointwise.mul(%c[2, :2], %x_1[:2, :2]), dims=[0])
    %r_2 = pointwise.add(%b[2, :2], %s_2)
    %x_2 = concat(%r_0, %r_1, %r_2, %b[3:], dim=0)
    ...

    %left = pointwise.neg(%c)
    %x = extern(%left, %b, target="aten.linalg_solve_triangular.default", ...)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rooftile.ir.core import Graph, Op
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.ledger import Decision
from rooftile.passes.rules.substitution import FEWEST, solved, system
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Substitution:
    """Solves what is substituted forwards row by row."""

    name: ClassVar[str] = "substitution"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with such systems solved; the same one where there are none."""
        producers = graph.producers()
        for output in [op.output for op in reversed(graph.ops) if op.name == "concat" and len(op.inputs) >= FEWEST]:
            op = producers.get(output)
            found = system(op, producers) if op is not None and op.name == "concat" else None
            if op is None or found is None:
                continue
            what = f"{len(op.inputs)} rows of %{output.name}, each a combination of those before"
            if ctx.options is not None and "no-extern" in ctx.options.require:
                _tell(ctx, "cut", op, f"{what}, are computed one by one: ATen's call is ruled out by no-extern")
                continue
            if not permitted("", output, op.loc):
                continue
            with working_on(op):
                graph = rewrite(solved(graph, op, found), RULES)
            _tell(ctx, "rewritten", op, f"{what}, are the solution of a triangular system: one call of ATen")
            producers = graph.producers()
        return graph


def _tell(ctx: PassContext, decision: Decision, op: Op, reason: str) -> None:
    ctx.ledger.add(decision, rule="substitution", values=[op.output.name], reason=reason, locs=[op.loc])
