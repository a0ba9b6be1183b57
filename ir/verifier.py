"""The verifier: walks a graph with the rules of ``rooftile.ir.checks`` and says where one is broken."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from typing import NamedTuple

from rooftile.errors import InternalError
from rooftile.ir.checks import END_RULES, OP_RULES, START_RULES
from rooftile.ir.core import UNKNOWN, Graph, Loc, Op
from rooftile.ir.expr import Symbol
from rooftile.ir.printer import print_op
from rooftile.ir.scope import Scope
from rooftile.ir.text import Level

_NEIGHBOURS = 2  # ops shown before and after the one at fault


class Problem(NamedTuple):
    """A broken rule: what is wrong, in which graph, and at which op (None: the graph itself)."""

    what: str
    graph: Graph
    level: Level
    op: Op | None


class VerifyError(InternalError):
    """A graph that breaks a rule. ``around`` shows the op among its neighbours."""

    def __init__(self, problem: Problem) -> None:
        op = problem.op
        text = print_op(op, problem.level) if op else ""
        super().__init__(
            f"in {problem.graph.name}: {problem.what}", op=text, where=source_text(op.loc if op else UNKNOWN)
        )
        self.around = _around(problem)

    def details(self) -> list[tuple[str, str]]:
        """The op is shown among its neighbours, below the rest."""
        return [(label, self.around if label == "op" else text) for label, text in super().details()]


def verify(graph: Graph) -> None:
    """Check ``graph`` and every graph in it.

    Raises:
        VerifyError: the first rule that is broken.
    """
    problem = next(problems(graph), None)
    if problem is not None:
        raise VerifyError(problem)


def problems(graph: Graph) -> Iterator[Problem]:
    """Everything that is wrong with ``graph``, in order."""
    sizes: dict[str, Symbol] = {}
    yield from _walk(Scope.of(graph, sizes))


def _walk(scope: Scope) -> Iterator[Problem]:
    graph, level = scope.graph, scope.level
    for rule in START_RULES:
        yield from (Problem(what, graph, level, None) for what in rule(graph, scope))
    for value in graph.inputs:
        scope.define(value)
    for op in graph.ops:
        for op_rule in OP_RULES[level.keyword]:
            yield from (Problem(what, graph, level, op) for what in op_rule(op, scope))
        for region in op.regions:
            yield from _walk(scope.within(op, region))
        for value in op.outputs:
            scope.define(value)
        scope = scope.behind(op)
    for rule in END_RULES:
        yield from (Problem(what, graph, level, None) for what in rule(graph, scope))


def source_text(loc: Loc) -> str:
    """``file:line`` with the module and, where the file can be read, the line itself."""
    line = linecache.getline(loc.file, loc.line).strip() if loc.file else ""
    module = f", in {loc.module}" if loc.module else ""
    return f"{loc.source}{module}{f': {line}' if line else ''}".removeprefix(", in ")


def _around(problem: Problem) -> str:
    if problem.op is None:
        return ""
    ops = problem.graph.ops
    at = next(n for n, op in enumerate(ops) if op is problem.op)
    shown = ops[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1]
    lines = (f"{'  -->' if op is problem.op else '     '} {print_op(op, problem.level)}" for op in shown)
    return "\n" + "\n".join(lines)
