"""Changing parts of a graph and leaving the rest as it is: one op, or the bodies of its regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op
from rooftile.passes.liveness import live_ops
from rooftile.passes.switches import permitted


def replaced(graph: Graph, op: Op, make: Callable[[GraphBuilder], object]) -> Graph:
    """``graph`` with the last of the ops that ``make`` builds in place of ``op``, whose results it takes over."""
    builder = GraphBuilder.beside(graph)
    for old in graph.ops:
        if old is not op:
            builder.ops.append(old)
            continue
        with builder.at(op.loc):
            make(builder)
        builder.ops[-1] = replace(builder.ops[-1], outputs=op.outputs)
    return replace(graph, ops=tuple(live_ops(builder.ops, graph.outputs)))


def with_bodies(graph: Graph, rewritten: Callable[[Graph], Graph]) -> Graph:
    """``graph`` with each region's body ``rewritten``; the same graph where every body comes back as the same
    object."""
    bodies: dict[Graph, Graph] = {}
    for op in graph.ops:
        if op.name == "region":
            (old, new) = op.regions[0], rewritten(op.regions[0])
            bodies[old] = new if new is old or permitted("", op.outputs[-1], op.loc) else old
    if all(old is new for old, new in bodies.items()):
        return graph
    ops = (replace(op, regions=tuple(bodies.get(body, body) for body in op.regions)) for op in graph.ops)
    return replace(graph, ops=tuple(ops))
