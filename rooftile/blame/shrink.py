"""The least part of a graph that still shows a fault: fewer results, then fewer ops in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from rooftile.errors import RooftileError
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.replacing import graph_of
from rooftile.passes.liveness import live_ops

Fails = Callable[[Graph], bool]
SECONDS = 60.0  # the longest that shrinking may take; what there is by then is a repro too


def shrunk(graph: Graph, fails: Fails, near: str = "") -> Graph:
    """``graph`` with as little in it as still ``fails``; ``near`` names a value that the fault is close to.

    Where one region is left that has no schedule yet, its body is shrunk likewise.
    """
    deadline = perf_counter() + SECONDS
    graph = _smaller(graph, fails, near, deadline)
    if len(graph.ops) == 1 and graph.ops[0].name == "region" and "roles" not in graph.ops[0].attrs:
        (region,) = graph.ops
        body = _smaller(region.regions[0], lambda body: fails(_alone(region, body)), near, deadline)
        return graph if body is region.regions[0] else _alone(region, body)
    return graph


def _alone(region: Op, body: Graph) -> Graph:
    """A graph of nothing but ``region`` with this body."""
    op = Op("region", body.inputs, body.outputs, region.attrs, (body,), region.loc)
    return graph_of(body.name, op)


def _smaller(graph: Graph, fails: Fails, near: str, deadline: float) -> Graph:
    """First a single result close to the fault takes the place of the results, then values become inputs, from the
    last ones on, so that what computes them falls away."""
    for value in _results_near(graph, near):
        if perf_counter() > deadline:
            break
        if _fails(candidate := part(graph, (value,)), fails):
            graph = candidate
            break
    number = len(graph.ops) - 1
    while number >= 0 and perf_counter() < deadline:
        if number < len(graph.ops):
            cut = [v for v in graph.ops[number].outputs if v not in graph.outputs]
            candidate = part(graph, graph.outputs, cut) if cut else graph
            if len(candidate.ops) < len(graph.ops) and _fails(candidate, fails):
                graph = candidate
        number -= 1
    return graph


def part(graph: Graph, outputs: tuple[Value, ...], inputs: Iterable[Value] = ()) -> Graph:
    """The ops between ``inputs``, beside the graph's own, and ``outputs``."""
    cut = set(inputs)
    ops = live_ops([op for op in graph.ops if not cut.issuperset(op.outputs)], outputs)
    read = {v for op in ops for v in op.inputs} | set(outputs)
    made = {v for op in ops for v in op.outputs}
    return Graph(graph.name, tuple(v for v in graph.values() if v in read and v not in made), tuple(ops), outputs)


def _fails(candidate: Graph, fails: Fails) -> bool:
    try:
        return fails(candidate)
    except (RooftileError, RuntimeError, ValueError, IndexError, AssertionError):
        return False  # another fault than the one that is looked for


def _results_near(graph: Graph, near: str) -> Iterator[Value]:
    """The value called ``near`` and those computed from it, nearest first; then the graph's own results."""
    found = {v for v in graph.values() if v.name == near}
    for op in graph.ops:
        if any(v.name == near for region in op.regions for v in region.values()):
            found.update(op.outputs)
    for op in graph.ops:
        if found.intersection((*op.inputs, *op.outputs)) and _is_float(op):
            yield op.outputs[-1]
            found.update(op.outputs)
    yield from (v for v in graph.outputs if v not in found)


def _is_float(op: Op) -> bool:
    return any(v.dtype.is_float for v in op.outputs)
