"""What a graph says of values beside how they are computed: of use until ``fuse``, which takes it out."""

from __future__ import annotations

from dataclasses import replace

from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.liveness import live_ops


def without_facts(graph: Graph) -> Graph:
    """The graph without notes of calls, what only they read, and what is known of positions."""
    instead: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in graph.ops:
        if op.name == "positions":
            instead[op.output] = instead.get(op.inputs[0], op.inputs[0])
        elif op.name != "called":
            inputs = tuple(instead.get(v, v) for v in op.inputs)
            ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))
    if len(ops) == len(graph.ops):
        return graph
    outputs = tuple(instead.get(v, v) for v in graph.outputs)
    return replace(graph, ops=tuple(live_ops(ops, outputs)), outputs=outputs)
