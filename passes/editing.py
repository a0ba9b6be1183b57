"""Changing parts of a graph and leaving the rest as it is: one op, or the bodies of its regions."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op
from rooftile.passes.liveness import live_ops
from rooftile.passes.switches import permitted


def replaced(graph: Graph, op: Op, make: Callable[[GraphBuilder], object]) -> Graph:
    """``graph`` with the last of the ops that ``make`` builds in place of ``op``, whose results it takes over."""

    def in_place(builder: GraphBuilder, op: Op) -> None:
        make(builder)
        builder.ops[-1] = replace(builder.ops[-1], outputs=op.outputs)

    return rewritten(graph, (op,), in_place)


def rewritten(graph: Graph, chosen: Container[Op], make: Callable[[GraphBuilder, Op], None]) -> Graph:
    """``graph`` with what ``make`` builds in place of each of the ops that are ``chosen``, with their results."""
    builder = GraphBuilder.beside(graph)
    for op in graph.ops:
        if op not in chosen:
            builder.ops.append(op)
            continue
        with builder.at(op.loc):
            make(builder, op)
    return replace(graph, ops=tuple(live_ops(builder.ops, graph.outputs)))


def with_bodies(graph: Graph, rewrite: Callable[[Graph], Graph]) -> Graph:
    """``graph`` with what ``rewrite`` makes of each region's body; the same graph where every body comes back as the
    same object."""
    bodies: dict[Graph, Graph] = {}
    for op in graph.ops:
        if op.name == "region":
            (old, new) = op.regions[0], rewrite(op.regions[0])
            bodies[old] = new if new is old or permitted("", op.outputs[-1], op.loc) else old
    if all(old is new for old, new in bodies.items()):
        return graph
    ops = (replace(op, regions=tuple(bodies.get(body, body) for body in op.regions)) for op in graph.ops)
    return replace(graph, ops=tuple(ops))
