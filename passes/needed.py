"""Pass ``needed``: where only a part of a value is read, only that part is computed.

What a prompt's last token alone is asked of, or the token that stands for a class, takes one row of the last layer's
queries, products and norms; keys and values are wanted of all rows. Before and after::

    %y = contract[b, n, k](%x[b, k], %w[n, k], out=[b, n]) : f32[2048, 512]
    %s = slice(%y, starts=[2047, 0], steps=[1, 1]) : f32[1, 512]

    %x_s = slice(%x, starts=[2047, 0], steps=[1, 1]) : f32[1, 64]
    %s = contract[b, n, k](%x_s[b, k], %w[n, k], out=[b, n]) : f32[1, 512]

Only where that is at most half of a dimension, so that sizes which suit tiles stay what they are. Rows in the order of
their numbers, of which few are put back, are computed in the order they come in: which of them lie where in the other
is not known before they are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.expr import Size
from rooftile.ir.graph_ops import infer_graph_op
from rooftile.ir.polynomial import add, mul
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.canonical.rewrite import rewrite
from rooftile.passes.canonicalize import RULES
from rooftile.passes.liveness import live_ops
from rooftile.passes.regions.sizes import likely
from rooftile.passes.rules.parts import Needs, Part, joined, needs, whole
from rooftile.passes.rules.unsorted_rows import in_own_order
from rooftile.passes.switches import permitted

FEWER = 2  # how many times fewer positions must be needed


@dataclass(frozen=True)
class Needed:
    """Computes of each value what is read of it."""

    name: ClassVar[str] = "needed"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with values of which a part is read in that size; the same one where there are none."""
        plan = _plan(graph)
        for op in [op for op in plan if op.name == "arrange"]:
            if any(span is not None for span in plan[op].asked[:1]) and permitted("", op.output, op.loc):
                found = in_own_order(graph, op)
                if found is not None:
                    graph = rewrite(found, RULES)
                    plan = _plan(graph)
        smaller = [op for op in plan if _is_computed(op) and plan[op].is_part]
        if not smaller or not permitted("", smaller[-1].output, smaller[-1].loc):
            return graph
        for op in smaller:
            _enter(ctx, op, plan[op].needs.output)
        return rewrite(_Narrowing(graph, plan).graph(), RULES)


def _is_computed(op: Op) -> bool:
    return op.name in ("contract", "reduce", "pointwise")


def _enter(ctx: PassContext, op: Op, part: Part) -> None:
    if op.name == "pointwise":
        return
    of = zip(part, op.output.shape, strict=True)
    text = " and ".join(f"{span.size} of {size}" for span, size in of if span is not None)
    reason = f"of %{op.output.name} only {text} are read, and computed"
    ctx.ledger.add("rewritten", rule="part", values=[op.output.name], reason=reason, locs=[op.loc])


@dataclass(frozen=True)
class _Planned:
    """What is ``asked`` of an op, and what it ``needs`` to give that."""

    asked: Part
    needs: Needs

    @property
    def is_part(self) -> bool:
        return any(span is not None for span in self.needs.output)


def _plan(graph: Graph) -> dict[Op, _Planned]:
    """Of each op with one result that is needed, what part of it; those left out are not needed, or as a whole."""
    asked: dict[Value, Part] = {value: whole(value.type.rank) for value in graph.outputs}
    plan: dict[Op, _Planned] = {}
    for op in reversed(graph.ops):
        if op.name == "called":
            # A fact about all of a value: of no use where that is not computed.
            is_whole = not any(_worthwhile(op.inputs[0], asked.get(op.inputs[0], ())))
            inputs = tuple(whole(x.type.rank) for x in op.inputs) if is_whole else ()
        elif len(op.outputs) != 1 or op.name in ("extern", "region"):
            inputs = tuple(whole(x.type.rank) for x in op.inputs)
        elif op.output not in asked:
            continue
        else:
            part = _worthwhile(op.output, asked[op.output])
            with working_on(op):
                plan[op] = _Planned(part, needs(op, part))
            inputs = plan[op].needs.inputs
        for x, part in zip(op.inputs[: len(inputs)], inputs, strict=True):
            asked[x] = joined(asked[x], part) if x in asked else part
    return plan


def _worthwhile(value: Value, part: Part) -> Part:
    """``part`` with all of each dimension of which not much less is asked."""
    spans = zip(part, value.shape[: len(part)], strict=True)
    return tuple(span if span is not None and FEWER * likely(span.size) <= likely(n) else None for span, n in spans)


class _Narrowing:
    """A graph whose values have the sizes of what is needed of them."""

    def __init__(self, graph: Graph, plan: Mapping[Op, _Planned]) -> None:
        self._graph, self._plan = graph, plan
        self._b = GraphBuilder.beside(graph)
        self._now: dict[Value, tuple[Value, Part]] = {}

    def graph(self) -> Graph:
        """The graph with everything computed in the parts of the plan."""
        for op in self._graph.ops:
            if op in self._plan:
                self._narrow(op, self._plan[op].needs)
            elif op.name != "called" or self._is_whole(op.inputs[0]):
                self._keep(op)
        outputs = tuple(self._now.get(v, (v, ()))[0] for v in self._graph.outputs)
        return replace(self._graph, ops=tuple(live_ops(self._b.ops, outputs)), outputs=outputs)

    def _is_whole(self, value: Value) -> bool:
        return not any(self._now.get(value, (value, ()))[1])

    def _keep(self, op: Op) -> None:
        if len(op.outputs) == 1 and op.name not in ("extern", "region", "called"):
            return  # nothing needs it
        inputs = tuple(self._read(x, whole(x.type.rank)) for x in op.inputs)
        self._b.ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))

    def _narrow(self, op: Op, found: Needs) -> None:
        with self._b.at(op.loc):
            inputs = tuple(self._read(x, part) for x, part in zip(op.inputs, found.inputs, strict=True))
        attrs = freeze_attrs(found.attrs)
        if inputs == op.inputs and attrs == op.attrs:
            self._b.ops.append(op)
            return
        (type,) = infer_graph_op(op.name, [x.type for x in inputs], attrs)
        value = op.output if _alike(type, op.output.type) else Value(op.output.name, type)
        self._b.ops.append(Op(op.name, inputs, (value,), attrs, (), op.loc))
        self._now[op.output] = value, found.output

    def _read(self, value: Value, part: Part) -> Value:
        """``part`` of what once was ``value``."""
        now, own = self._now.get(value, (value, whole(value.type.rank)))
        starts: list[Size] = []
        for asked, given in zip(part, own, strict=True):
            start, before = (span.start if span is not None else 0 for span in (asked, given))
            starts.append(add(start, mul(before, -1)) if asked is not None else 0)
        sizes = tuple(n if span is None else span.size for n, span in zip(now.shape, part, strict=True))
        if sizes == tuple(now.shape):
            return now
        attrs = {"starts": tuple(starts), "sizes": sizes, "steps": (1,) * len(sizes)}
        return self._b.op("slice", [now], attrs, name=value.name)


def _alike(a: TensorType, b: TensorType) -> bool:
    return a.dtype is b.dtype and a.shape == b.shape
