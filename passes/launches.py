"""Regions that share a launch, as one region: a body with all their results, and a kernel for each.

The attribute ``launch`` holds the number of a launch, and the region's place in it. Where schedules have come to differ
in what a launch has one of, such as warps, regions run by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.ir.schedule import option

_ALIKE = ("num_warps", "num_stages")
_OPTIONS_ALIKE = ("persistent", "specialize", "flatten")


@dataclass(frozen=True)
class Launches:
    """A graph in which regions that share a launch are one op; ``inputs`` numbers, for each of its kernels, those of
    its inputs that the kernel reads."""

    graph: Graph
    inputs: Mapping[Op, tuple[tuple[int, ...], ...]]


def launches(graph: Graph) -> Launches:
    """``graph``, whose regions are lowered, with those that share a launch made one."""
    joined: dict[Op, Op] = {}  # the last op of each group, where the group's op stands
    gone: set[Op] = set()
    inputs: dict[Op, tuple[tuple[int, ...], ...]] = {}
    position = {op: n for n, op in enumerate(graph.ops)}
    for placed in sharing(graph.ops):
        if len(placed) > 1 and can_share([op.attrs for op in placed]):
            one, last = joined_op(placed), max(placed, key=lambda op: position[op])
            joined[last] = one
            gone.update(op for op in placed if op is not last)
            inputs[one] = tuple(tuple(one.inputs.index(v) for v in op.inputs) for op in placed)
    kept = [joined.get(op, op) for op in graph.ops if op not in gone]
    return Launches(replace(graph, ops=tuple(operands_first(kept))) if joined else graph, inputs)


def sharing(ops: Iterable[Op]) -> list[tuple[Op, ...]]:
    """``ops``, those that share a launch as one tuple, in their order there; every other one by itself."""
    groups: dict[object, list[Op]] = {}
    for op in ops:
        groups.setdefault(op.attrs["launch"][0] if "launch" in op.attrs else op, []).append(op)
    return [
        tuple(sorted(group, key=lambda op: int(op.attrs["launch"][1]))) if len(group) > 1 else (group[0],)
        for group in groups.values()
    ]


def can_share(regions: Sequence[Mapping[str, object]]) -> bool:
    """Whether regions with these attributes can all share a launch."""
    return all(alike(each, regions[0]) for each in regions)


def alike(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    """Whether regions with these attributes can share a launch."""
    same = all(a[name] == b[name] for name in _ALIKE) and all(option(a, n) == option(b, n) for n in _OPTIONS_ALIKE)
    alone = (option(a, "specialize"), option(a, "flatten"), option(a, "tail") > 1, option(b, "tail") > 1)
    return same and not any(alone)


def operands_first(ops: Sequence[Op]) -> list[Op]:
    """``ops`` with each behind those that it reads from, otherwise in their order."""
    waiting = list(ops)
    made = {v for op in ops for v in op.outputs}
    ordered: list[Op] = []
    while waiting:
        ready = next(op for op in waiting if made.isdisjoint(op.inputs))
        ordered.append(ready)
        waiting = [op for op in waiting if op is not ready]
        made.difference_update(ready.outputs)
    return ordered


def joined_op(ops: Sequence[Op]) -> Op:
    """``ops``, which are lowered, as one."""
    inputs = tuple(dict.fromkeys(v for op in ops for v in op.inputs))
    outputs = tuple(v for op in ops for v in op.outputs)
    name = f"{ops[0].attrs['name']}_and_others"
    attrs = {key: value for key, value in ops[0].attrs.items() if key != "launch"} | {"name": name}
    kernels = tuple(op.regions[1] for op in ops)
    return Op("region", inputs, outputs, freeze_attrs(attrs), (_body(ops, name), *kernels), ops[0].loc)


def _body(ops: Sequence[Op], name: str) -> Graph:
    """The regions' bodies as one, in which what several read is one input."""
    names: set[str] = set()
    shared: dict[Value, Value] = {}
    inner: list[Op] = []
    outputs: list[Value] = []
    for op in ops:
        body = op.regions[0]
        new: dict[Value, Value] = {}
        for outside, value in zip(op.inputs, body.inputs, strict=True):
            if outside not in shared:
                shared[outside] = _named(value, names)
            new[value] = shared[outside]
        for each in body.ops:
            new |= {v: _named(v, names) for v in each.outputs}
            inner.append(replace(each, inputs=_swapped(each.inputs, new), outputs=_swapped(each.outputs, new)))
        outputs += _swapped(body.outputs, new)
    return Graph(name, tuple(shared.values()), tuple(inner), tuple(outputs))


def _named(value: Value, names: set[str]) -> Value:
    name = unique_name(value.name, names)
    names.add(name)
    return Value(name, value.type)


def _swapped(values: Sequence[Value], new: Mapping[Value, Value]) -> tuple[Value, ...]:
    return tuple(new[v] for v in values)
