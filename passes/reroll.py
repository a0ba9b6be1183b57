"""Pass ``reroll``: terms of a sum, or of a stack, that are one expression at numbers in a row lie along an axis.

A loop that a model runs over experts, each with its part of a stacked weight or with weights of its own, and the tokens
that chose its number, is traced as so many terms. Along an axis they are what products of all experts at once would be,
and what is known of such sums serves both. Before and after::

    %w_0 = slice(%w, starts=[0, 0, 0], steps=[1, 1, 1]) : f32[1, 16, 8]
    %y_0 = contract[i, j, k](%x[i, k], %w_0[0, k, j], out=[i, j])
    ...
    %s = pointwise.add(%y_0, %y_1)

    %y = contract[e, i, j, k](%x[i, k], %w[e, k, j], out=[e, i, j])
    %s = reduce.sum(%y, dims=[0])

That is done where `chosen` then finds terms that are zero, and leaves them out. Of others, all of which are needed, the
products would have to be stored side by side before they are summed; one by one, each is added to those before.

Loops inside one another, over choices and over experts, give terms of which several read the same products: a sum over
an axis for each loop.

Weights of their own are laid one behind the other by a call that is made once, and again when one has changed. That
takes as much memory again as they do, so a device must have room for both; where autograd records calls it is not done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, TypeAlias

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.chosen import better
from rooftile.passes.editing import replaced
from rooftile.passes.ledger import Decision
from rooftile.passes.packing import is_packed, lasting_values, room
from rooftile.passes.regions.sizes import likely
from rooftile.passes.rules.chosen_terms import SUMS
from rooftile.passes.rules.unrolled import AlongAxis, NotAlike, Shapes, along_axes
from rooftile.passes.switches import permitted

Users: TypeAlias = Mapping[Value, list[Op]]

# What would let only the terms be computed that are needed, by whether autograd records the calls.
_ADVICE = {
    False: "as parts of one tensor's first dimension, only those needed would be",
    True: "under torch.no_grad(), or as parts of one tensor's first dimension, only those needed would be",
}
_KINDS = {"pointwise": ("sum", "terms"), "concat": ("stack", "parts")}
FEWEST = 3  # terms: two of a kind are mostly branches of a model, and not told of


@dataclass(frozen=True)
class Reroll:
    """Sums terms that are alike over an axis, and computes alike parts of stacks along one."""

    name: ClassVar[str] = "reroll"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with such sums and stacks along axes; the same one where there are none."""
        producers, users = graph.producers(), graph.users()
        weights = () if graph.attrs.get("trained") else lasting_values(graph).intersection(graph.inputs)
        shapes: Shapes | None = None
        for op in [op for op in graph.ops if _is_stack(op) or (_is_sum(op) and not _is_part(op, graph, users))]:
            parts = op.inputs if _is_stack(op) else _terms(op, graph, producers, users)
            if len(parts) < FEWEST:
                continue
            shapes = shapes or Shapes(graph)
            found = _Unrolled(op, tuple(parts), _largest_group(parts, shapes))
            if not found.is_enough or not permitted("", op.output, op.loc):
                continue
            rolled, why = _rolled(graph, found, producers, weights, ctx)
            if rolled is None:
                found.enter(ctx, "cut", why)
                continue
            graph = rolled
            found.enter(ctx, "rewritten")
            producers, users, shapes = graph.producers(), graph.users(), None
        return graph


@dataclass(frozen=True)
class _Unrolled:
    """A sum or a stack ``op`` of ``parts``, of which those that are ``alike`` may be one along an axis."""

    op: Op
    parts: tuple[Value, ...]
    alike: tuple[Value, ...]

    @property
    def is_enough(self) -> bool:
        """Whether there are enough of these; a stack has no others."""
        return len(self.alike) >= FEWEST and (_is_sum(self.op) or len(self.alike) == len(self.parts))

    def rolled(self, builder: GraphBuilder, producers: Mapping[Value, Op], weights: Collection[Value]) -> None:
        """Build the result of ``op``."""
        shape = self.op.output.shape
        if _is_sum(self.op):
            found = along_axes(builder, self.alike, producers, weights)
            others = [x for x in self.parts if x not in self.alike]
            total = builder.reduce("sum", found, range(found.type.rank - len(shape)))
            reduce(lambda a, b: builder.pointwise("add", a, b), [*others, total])
            return
        found, dim = AlongAxis(builder, producers, len(self.alike), weights).of(self.alike), self.op.attrs["dim"]
        order = [0 if d == dim else d + 1 for d in range(len(shape))]
        builder.reshape(builder.permute(found, [*order, dim + 1]), shape)

    def enter(self, ctx: PassContext, decision: Decision, why: str = "") -> None:
        """What became of it, into the ledger."""
        name, count, (what, each) = self.op.output.name, len(self.alike), _KINDS[self.op.name]
        reason = f"%{name} is a {what} of {count} {each} at numbers in a row: one {what} over an axis"
        if why:
            reason = f"all {count} {each} of %{name} are computed, one by one: {why}"
        ctx.ledger.add(decision, rule="reroll", values=[name], reason=reason, locs=[self.op.loc])


def _rolled(
    graph: Graph, found: _Unrolled, producers: Mapping[Value, Op], weights: Collection[Value], ctx: PassContext
) -> tuple[Graph | None, str]:
    """The graph with what is ``found`` along an axis; None, and why, where that cannot be or gains nothing."""

    def make(builder: GraphBuilder) -> None:
        found.rolled(builder, producers, weights)

    try:
        with working_on(found.op):
            rolled = rewrite(replaced(graph, found.op, make), RULES)
    except NotAlike as why:
        return None, f"{why}; {_ADVICE[bool(graph.attrs.get('trained'))]}"
    if not _has_zeros(rolled, graph, found.op.output):
        return None, "too few of them are known to be zero"
    stacks = [op.output for op in set(rolled.ops).difference(graph.ops) if op.name == "extern" and is_packed(op)]
    bytes, left = sum(likely(v.type.bytes) for v in stacks), room(graph, ctx.target)
    if bytes > left:
        return None, f"their weights one behind the other would take {bytes} bytes, and there is room for {left}"
    if stacks and not permitted("stack", found.op.output, found.op.loc):
        return None, "their weights are separate values"
    return rolled, ""


def _has_zeros(rolled: Graph, before: Graph, value: Value) -> bool:
    """Whether a sum that was not there before, or that ``value`` comes to, has terms that can be left out with products
    that were not there before."""
    known, producers = set(before.ops), rolled.producers()
    new = {op for op in rolled.ops if op.name == "contract" and op not in known}
    sums = [op for op in rolled.ops if op.name in SUMS and op not in known]
    for op in (*sums, *_next_sums(rolled, value)):
        changed = better(rolled, op, producers) if op.output.dtype.is_float else None
        if changed is not None and not new <= set(changed.graph.ops):
            return True
    return False


def _next_sums(graph: Graph, value: Value) -> list[Op]:
    """The sums that ``value`` comes to, before other sums."""
    users, found, stack = graph.users(), dict[Op, None](), [value]
    while stack:
        for op in users.get(stack.pop(), ()):
            if op.name in SUMS:
                found[op] = None
            elif op.name in GRAPH_OPS and op.name != "extern":
                stack += op.outputs
    return list(found)


def _is_stack(op: Op) -> bool:
    """Whether ``op`` lays values one behind the other along a dimension of their own."""
    return op.name == "concat" and op.output.dtype.is_float and all(x.shape[op.attrs["dim"]] == 1 for x in op.inputs)


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


def _largest_group(terms: Sequence[Value], shapes: Shapes) -> tuple[Value, ...]:
    """The terms that are most often alike, of those with products."""
    groups: dict[int, list[Value]] = {}
    for x in terms:
        groups.setdefault(shapes.of[x], []).append(x)
    products = (tuple(alike) for shape, alike in groups.items() if shape in shapes.with_products)
    return max(products, key=len, default=())
