"""Which ops a graph needs."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Graph, Op, Value


def live_ops(ops: Sequence[Op], outputs: Sequence[Value]) -> list[Op]:
    """The ops that ``outputs`` need, every ``extern`` (an ATen call may write to what it reads) but those that are
    made of weights once, and what is known of calls."""
    wanted = set(outputs)
    kept: list[Op] = []
    for op in reversed(ops):
        if (op.name in ("extern", "called") and not op.attrs.get("packed")) or not wanted.isdisjoint(op.outputs):
            wanted.update(op.inputs)
            kept.append(op)
    return kept[::-1]


def needed_without(graph: Graph, op: Op) -> frozenset[Op]:
    """The ops that ``graph`` would need if the result of ``op`` were given; what is known of calls asks for nothing."""
    others = [each for each in graph.ops if each is not op and each.name != "called"]
    return frozenset(live_ops(others, graph.outputs))
