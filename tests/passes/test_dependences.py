"""Which ops wait for which, against reachability in a graph."""

from __future__ import annotations

import random
from itertools import pairwise

import networkx as nx
import pytest

from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.dtypes import F32
from rooftile.passes.dependences import Dependences


def random_graph(seed: int, count: int = 24) -> Graph:
    """Ops that read up to three values made before; some are ATen calls."""
    generator = random.Random(seed)
    values = [Value("x", TensorType(F32, (1,)))]
    ops: list[Op] = []
    for number in range(count):
        inputs = tuple(generator.sample(values, min(len(values), generator.randrange(4))))
        output = Value(f"v{number}", TensorType(F32, (1,)))
        ops.append(Op("extern" if generator.random() < 0.15 else "region", inputs, (output,)))
        values.append(output)
    return Graph("main", (values[0],), tuple(ops), ())


def reachability(graph: Graph) -> nx.DiGraph:
    producers, found = graph.producers(), nx.DiGraph()
    found.add_nodes_from(graph.ops)
    found.add_edges_from((producers[v], op) for op in graph.ops for v in op.inputs if v in producers)
    found.add_edges_from(pairwise(op for op in graph.ops if op.name == "extern"))
    return found


def independent(ops: list[Op], order: nx.DiGraph) -> list[Op]:
    found: list[Op] = []
    for op in ops:
        if (nx.descendants(order, op) | nx.ancestors(order, op)).isdisjoint(found):
            found.append(op)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_independent_ops_are_those_that_no_path_joins(seed: int) -> None:
    graph, generator = random_graph(seed), random.Random(seed + 100)
    order, dependences = reachability(graph), Dependences(graph)
    for _ in range(6):
        some = generator.sample(graph.ops, 8)
        together = independent(some, order)
        assert dependences.independent(some) == together
        dependences.join(together[:3])
        before = {a for op in together[:3] for a in order.predecessors(op)}
        after = {a for op in together[:3] for a in order.successors(op)}
        order.add_edges_from((a, op) for a in before for op in together[:3])
        order.add_edges_from((op, a) for a in after for op in together[:3])
