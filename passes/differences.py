"""Pass ``differences``: what depends on two indices only through one combination of them, such as their difference, is
computed once for each value of that, and read where it was computed.

Before, where ``%bucket`` is computed from ``iota(i) - iota(j)`` alone::

    %bias = gather[i=512, j=512, h=8](%table[idx1, h], %bucket[i, j]) : f32[512, 512, 8]

After, with ``%buckets`` computed from ``iota(1023) - 511``::

    %biases = gather[h=8, t=1023](%table[idx1, h], %buckets[t]) : f32[8, 1023]
    %bias = gather[i=512, j=512, h=8](%biases[h, i - j + 511]) : f32[512, 512, 8]

It is done where the arithmetic that it saves takes longer than the reads, and the kernel that computes the values.
Conditions stay what they are, predicates over indices from which the bounds of loops follow, and so does what puts
numbers where they hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.combinations import price
from rooftile.passes.combinations.line import Line, line
from rooftile.passes.combinations.recompute import Recomputed, read_back
from rooftile.passes.combinations.sources import Source, sources
from rooftile.passes.liveness import live_ops
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Differences:
    """Computes values over combinations of indices; see the module."""

    name: ClassVar[str] = "differences"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with every value that costs less that way computed over its line; the same one where none does."""
        values = _Values(graph)
        wanted = {v: at for v in values.candidates() if (at := values.lines[v]) is not None}
        builder = GraphBuilder.beside(graph)
        instead: dict[Value, Value] = {}
        for op in graph.ops:
            is_condition = any(v.dtype.kind == "bool" for v in op.outputs)
            inputs = op.inputs if is_condition else tuple(instead.get(v, v) for v in op.inputs)
            builder.ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))
            for value in op.outputs:
                if value in wanted:
                    with working_on(op), builder.at(op.loc):
                        instead |= _once(builder, values, value, wanted[value], ctx)
        if not instead:
            return graph
        return rewrite(replace(graph, ops=tuple(live_ops(builder.ops, graph.outputs))), RULES)


def _once(builder: GraphBuilder, values: _Values, value: Value, at: Line, ctx: PassContext) -> dict[Value, Value]:
    """What to read instead of ``value``, if it costs less to compute it over the line ``at``."""
    before = len(builder.ops)
    recomputed = Recomputed(builder, values.producers, values.known, value, at).result
    pairs = price.elements(value, values.known[value])
    there = price.of_each(value, values.producers, values.known)
    once = price.of_all(builder.ops[before:]) + price.READ * pairs
    kernel = ctx.target.launch_seconds * ctx.target.scalar_flops
    gains = there > once + kernel and permitted("hoisted", value, values.producers[value].loc)
    dims = " and ".join(str(d) for d in at.bound)
    ctx.ledger.add(
        "hoisted" if gains else "recomputed",
        rule="cost",
        values=[value.name],
        reason=f"%{value.name} depends on dimensions {dims} only through {at.at}: computing it for every pair takes "
        f"{there / 1e6:.1f} MFLOP, once for each of these {at.extent} and reading it {once / 1e6:.1f}",
        locs=[values.producers[value].loc],
    )
    if gains:
        return {value: read_back(builder, recomputed, value, at)}
    del builder.ops[before:]
    return {}


class _Values:
    """The values of a graph that could be computed over a line, and these lines."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.producers = graph, graph.producers()
        self.known: dict[Value, Source] = sources(graph)
        self.lines = {value: line(value, source) for value, source in self.known.items()}
        self._emptying: dict[Value, bool] = {}

    def candidates(self) -> dict[Value, None]:
        """The last values that depend on a line alone, in what something else is computed from."""
        found: dict[Value, None] = {}
        for op in self.graph.ops:
            if op.name == "called" or any(v.dtype.kind == "bool" or self.lines[v] is not None for v in op.outputs):
                continue
            found |= dict.fromkeys(c for value in op.inputs for c in self._below(value))
        return found

    def _below(self, value: Value) -> Iterator[Value]:
        """What is to be computed over a line in the computation of ``value``: the value before it is spread, and
        before conditions put numbers into it."""
        op = self.producers.get(value)
        is_arithmetic = value.dtype.kind != "bool" and self.known[value].linear is None
        if op is None or self.lines[value] is None or not is_arithmetic:
            return
        if GRAPH_OPS[op.name].view or self.empties(value):
            for operand in op.inputs:
                yield from self._below(operand)
        else:
            yield value

    def empties(self, value: Value) -> bool:
        """Whether a condition puts a number, which may empty steps of a loop, into the float ``value``."""
        if value not in self._emptying:
            op = self.producers.get(value)
            self._emptying[value] = op is not None and value.dtype.is_float and self._does_empty(op)
        return self._emptying[value]

    def _does_empty(self, op: Op) -> bool:
        if op.name == "cast" and op.inputs[0].dtype.kind == "bool":
            return True
        if op.attrs.get("fn") == "where" and any(not self.known[v].varies for v in op.inputs[1:]):
            return True
        return (op.name in ("pointwise", "cast") or GRAPH_OPS[op.name].view) and any(map(self.empties, op.inputs))
