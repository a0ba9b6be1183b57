"""What is the same in every call: values computed from weights alone, and the graph cut where they end.

Regions whose attribute ``packed`` holds, and ATen calls that lay weights one behind the other, are not run in every
call. ``apart`` gives them a graph of their own, whose results are further inputs of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.expr import size_symbols
from rooftile.passes.regions.sizes import likely
from rooftile.target import Target

STACK = "aten.stack.default"  # lays weights one behind the other
LASTING = frozenset({"parameter", "buffer", "constant"})  # kinds of inputs that change between calls at most seldom
MOST_KEPT = 0.5  # of the weights' own bytes: a copy of fp32 weights in half the width
MOST_HELD = 0.5  # of the device's memory: weights and copies of them, beside caches and activations
ALWAYS_KEPT = 64 * 2**20  # bytes: tables of positions, of models however small


@dataclass(frozen=True)
class Apart:
    """A graph in two: ``once`` computes from weights, by their numbers among the inputs of ``every`` (``sources``),
    what ``every`` takes as its last inputs."""

    once: Graph
    every: Graph
    sources: tuple[int, ...]


def input_kinds(graph: Graph) -> tuple[str, ...]:
    """What each input of ``graph`` is: one of ``LASTING``, ``"state"`` for one of these that a call writes to,
    ``"packed"`` for what is computed from these alone, else ``"input"``."""
    return graph.attrs.get("kinds") or ("input",) * len(graph.inputs)


def _weights(graph: Graph) -> list[Value]:
    return [v for v, kind in zip(graph.inputs, input_kinds(graph), strict=True) if kind in LASTING]


def lasting_values(graph: Graph) -> set[Value]:
    """The weights of ``graph``, and all that is computed from nothing else, with sizes that are known."""
    found = {v for v in _weights(graph) if _is_static(v)}
    for op in graph.ops:
        if (op.name != "extern" or is_packed(op)) and found.issuperset(op.inputs) and _knows_sizes(op):
            found.update(op.outputs)
    return found


def from_weights(graph: Graph) -> set[Value]:
    """The lasting values that ops compute from at least one weight: nothing that could be known without the model."""
    lasting = lasting_values(graph)
    weighted = lasting.intersection(graph.inputs)
    for op in graph.ops:
        if lasting.issuperset(op.outputs) and not weighted.isdisjoint(op.inputs):
            weighted.update(op.outputs)
    return weighted.difference(graph.inputs)


def budget(graph: Graph) -> int:
    """How many bytes may be kept."""
    return max(ALWAYS_KEPT, int(MOST_KEPT * sum(likely(v.type.bytes) for v in _weights(graph))))


def room(graph: Graph, target: Target) -> int:
    """How many bytes the device has left for copies of weights, beside them and the copies that are there."""
    held = [*_weights(graph), *(v for op in graph.ops if is_packed(op) for v in op.outputs)]
    return max(0, int(MOST_HELD * target.memory_bytes) - sum(likely(v.type.bytes) for v in held))


def _knows_sizes(op: Op) -> bool:
    """Whether no run-time size has a part in what ``op`` gives."""
    return all(map(_is_static, op.outputs)) and not Graph("op", (), (op,), ()).size_symbols()


def _is_static(value: Value) -> bool:
    return not any(size_symbols(size) for size in (*value.shape, *(value.type.strides or ())))


def apart(graph: Graph) -> Apart | None:
    """What is packed of ``graph`` and the rest of it; None where nothing is."""
    packed = [op for op in graph.ops if is_packed(op)]
    if not packed:
        return None
    rest = [op for op in graph.ops if not is_packed(op)]
    wanted = {v for op in rest for v in op.inputs}.union(graph.outputs)
    read = {v for op in packed for v in op.inputs}
    kept = tuple(v for op in packed for v in op.outputs if v in wanted)
    sources = tuple(number for number, v in enumerate(graph.inputs) if v in read)
    kinds = input_kinds(graph)
    inputs = tuple(graph.inputs[n] for n in sources)
    attrs = freeze_attrs({"kinds": tuple(kinds[n] for n in sources)})
    once = Graph(f"{graph.name}_packed", inputs, tuple(packed), kept, attrs)
    attrs = freeze_attrs({**graph.attrs, "kinds": (*kinds, *("packed" for _ in kept))})
    every = replace(graph, inputs=(*graph.inputs, *kept), ops=tuple(rest), attrs=attrs)
    return Apart(once, every, sources)


def is_scheduled(op: Op) -> bool:
    """Whether ``op`` is a region that is run in every call, has a schedule, and sizes that are known."""
    is_region = op.name == "region" and "roles" in op.attrs
    return is_region and not is_packed(op) and not op.regions[0].size_symbols()


def readers(graph: Graph, ops: Iterable[Op]) -> dict[Value, list[Op]]:
    """Which of ``ops`` read each value, weights aside."""
    kinds = zip(graph.inputs, input_kinds(graph), strict=True)
    weights = {v for v, kind in kinds if kind in LASTING or kind == "packed"}
    found: dict[Value, list[Op]] = {}
    for op in ops:
        for value in dict.fromkeys(op.inputs):
            if value not in weights:
                found.setdefault(value, []).append(op)
    return found


def stacked(op: Op) -> tuple[Value, ...]:
    """The weights that a call lays one behind the other, in order; one may be there more than once."""
    (_, *operands) = op.attrs["args"][0]
    return tuple(op.inputs[number] for _, number in operands)


def is_packed(op: Op) -> bool:
    """Whether the results of a region or a call are kept from call to call."""
    return bool(op.attrs.get("packed"))
