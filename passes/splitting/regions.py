"""The two regions of a split sweep: the states of every part, and their merging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.passes.liveness import live_ops
from rooftile.passes.regions.access import Read
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.parts import summed, swept
from rooftile.passes.regions.sweeps import Sweeps
from rooftile.passes.splitting.copies import Copies, Copy, Cut
from rooftile.passes.splitting.merge import Merge
from rooftile.passes.splitting.rows import ROWS, contracted, reduced


def split_region(op: Op, sweeps: Sweeps, name: str, cut: Cut, names: set[str]) -> tuple[Op, ...]:
    """A region op that gives the states of every part of the sweep over axis ``name``, and one that merges them.

    ``names`` are those taken in the graph around; it gets the new ones.

    Raises:
        NotCut: something is computed across the parts.
        NoCommonSpace: the states are not those of one sweep.
    """
    reductions = {r: o for r in swept(sweeps.access, name) if (o := sweeps.access.nodes[r].op) is not None}
    body, called = op.regions[0], str(op.attrs["name"])
    builder = GraphBuilder.beside(body, names)
    parts = Copies(body, builder, cut, ROWS, set(reductions.values()), _part)
    partial = {o: parts.of(o.output, None).value for o in reductions.values()}
    states = {o: _named(partial[o], r) for r, o in reductions.items()}
    outputs = sorted(partial.values(), key=_dimensions)
    first = _renamed(_finished(builder, body.inputs, outputs), {partial[o]: v for o, v in states.items()})
    compose(first)
    names.update(v.name for v in first.outputs)
    merged = _merged(body, sweeps, name, cut, states, reductions, names)
    outer = {v: v for v in first.outputs}
    outer |= dict(zip((*body.inputs, *body.outputs), (*op.inputs, *op.outputs), strict=True))
    return _region(first, unique_name(f"{called}_parts", names), op, outer), _region(merged, called, op, outer)


def _dimensions(state: Value) -> int:
    """How many dimensions of more than one element ``state`` has: the last output's axes must be those of the others,
    such as those of a product beside a sum over its rows."""
    return sum(size != 1 for size in state.shape)


def _named(state: Value, read: Read) -> Value:
    """A state with its dimensions named after the axes of the whole region."""
    letters = [str(e) if str(e).isidentifier() else f"u{d}" for d, e in enumerate(read.index)]
    return Value(state.name, replace(state.type, axes=(unique_name("p", letters), *letters)))


def _part(copies: Copies, op: Op) -> Copy:
    """A reduction over the cut axis, for every part."""
    (number,) = summed(op)
    if op.name == "contract":
        return contracted(copies, op, op.attrs["axes"][number][0], swept=True)
    return reduced(copies, op, number, swept=True)


def _merged(
    body: Graph,
    sweeps: Sweeps,
    name: str,
    cut: Cut,
    states: dict[Op, Value],
    reductions: dict[Read, Op],
    names: set[str],
) -> Graph:
    """The outputs of ``body`` from the states of the parts."""
    builder = GraphBuilder.beside(body, names)
    reads = {o: r for r, o in reductions.items()}
    old = Copies(body, builder, cut, ROWS, reads, lambda _, o: Copy(states[o], True))
    new = Copies(body, builder, cut, ROWS, reads, lambda _, o: Copy(merge.of(reads[o]), False))
    merge = Merge(builder, sweeps, name, states, old, new)
    results = [new.of(v, None).value for v in body.outputs]
    graph = _finished(builder, (*states.values(), *body.inputs), results)
    return _renamed(graph, dict(zip(results, body.outputs, strict=True)))


def _finished(builder: GraphBuilder, inputs: Sequence[Value], outputs: Sequence[Value]) -> Graph:
    """The graph of the live ops, with those of ``inputs`` that they read."""
    ops = live_ops(builder.ops, outputs)
    read = {v for op in ops for v in op.inputs}
    return Graph(builder.name, tuple(v for v in inputs if v in read), tuple(ops), tuple(outputs))


def _renamed(graph: Graph, new: dict[Value, Value]) -> Graph:
    """``graph`` with values under the names by which others know them."""

    def swap(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(new.get(v, v) for v in values)

    ops = tuple(replace(o, inputs=swap(o.inputs), outputs=swap(o.outputs)) for o in graph.ops)
    return replace(graph, ops=ops, outputs=swap(graph.outputs))


def _region(body: Graph, name: str, op: Op, outer: dict[Value, Value]) -> Op:
    """A region op like ``op``, between the values that ``outer`` gives for those of ``body``."""
    inputs, outputs = (tuple(outer[v] for v in values) for values in (body.inputs, body.outputs))
    attrs = freeze_attrs({**of_parts(op), "name": name})
    return Op("region", inputs, outputs, attrs, (replace(body, name=name),), op.loc)


def of_parts(op: Op) -> dict[str, Any]:
    """The attributes that hold for the regions that ``op`` is cut into: none of them gives what a call would."""
    return {name: value for name, value in op.attrs.items() if name != "call"}
