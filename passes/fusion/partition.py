"""A partition of the graph into regions: nothing but the set of values that are buffers."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.fusion.judge import Verdict
from rooftile.passes.fusion.twins import Twins
from rooftile.passes.packing import budget, from_weights
from rooftile.passes.regions.sizes import likely
from rooftile.target import Target


def is_heavy(op: Op) -> bool:
    """Whether an element of the result takes many elements of the operands; a product that sums nothing doesn't."""
    if op.name == "contract":
        return any(size != 1 and name not in op.attrs["out"] for name, size in op.attrs["axes"])
    return op.name in ("reduce", "scan")


def is_renaming(op: Op) -> bool:
    """Whether the result is the one operand's elements under other indices."""
    return len(op.inputs) == 1 and op.name in GRAPH_OPS and GRAPH_OPS[op.name].view


def _numbers(graph: Graph) -> set[Value]:
    """The values that no kernel reads from memory, even where they are there for ATen: those that hold one number
    everywhere, and the numbers of segments, of which a tile of rows may need but one."""
    found: set[Value] = set()
    for op in graph.ops:
        if op.name in ("constant", "size", "segment") or (is_renaming(op) and op.inputs[0] in found):
            found.update(op.outputs)
    return found


class Partition:
    """The graph and the set of values that are buffers; regions follow from these two.

    ``taps`` are buffers that the region of another value stores beside that; ``packable`` values are computed from
    weights alone, so that a region of such a value is run once, not in every call.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph, self.target = graph, target
        self.producers, self.users = graph.producers(), graph.users()
        self.position = {op: n for n, op in enumerate(graph.ops)}
        externs = [op for op in graph.ops if op.name == "extern"]
        given = {*graph.inputs, *(v for op in externs for v in op.outputs)}
        placed = (op.output for op in graph.ops if op.name in ("scatter", "arrange"))
        self.fixed = {*graph.outputs, *placed, *(v for op in externs for v in op.inputs)} - given
        self.given = given
        self.numbers = _numbers(graph)
        heavy = {op.output for op in graph.ops if is_heavy(op)}
        self.buffers: set[Value] = self.fixed | heavy
        most = budget(graph)
        self.packable = {v for v in from_weights(graph) if likely(v.type.bytes) <= most}
        self.taps: dict[Value, tuple[Value, ...]] = {}
        self._twins = Twins(target)
        self._verdicts: dict[tuple[tuple[Value, ...], frozenset[Value]], Verdict] = {}

    def cone(
        self, root: Value, buffers: Collection[Value] | None = None, taps: tuple[Value, ...] = ()
    ) -> tuple[list[Op], list[Value]]:
        """The ops that compute ``root`` and ``taps`` from buffers and inputs, in graph order, and these."""
        stops, roots = self.buffers if buffers is None else buffers, (*taps, root)
        ops: set[Op] = set()
        leaves: dict[Value, None] = {}
        stack = [*roots]
        while stack:
            value = stack.pop()
            if value in self.given or (value in stops and value not in roots and value not in self.numbers):
                leaves[value] = None
            elif (op := self.producers[value]) not in ops:
                ops.add(op)
                stack.extend(reversed(op.inputs))
        return sorted(ops, key=self.position.__getitem__), list(leaves)

    def body(self, root: Value, buffers: set[Value] | None = None, taps: tuple[Value, ...] | None = None) -> Graph:
        """The region that computes ``root``, and with it ``taps`` (those of ``self``, if None)."""
        taps = self.taps.get(root, ()) if taps is None else taps
        ops, leaves = self.cone(root, buffers, taps)
        return Graph(root.name, tuple(leaves), tuple(ops), (*taps, root))

    def host(self, value: Value) -> Value:
        """The root of the region that stores ``value``."""
        return next((root for root, taps in self.taps.items() if value in taps), value)

    def results(self, root: Value) -> tuple[Value, ...]:
        """What the region of ``root`` stores, that last."""
        return *self.taps.get(root, ()), root

    def hosts(self, value: Value) -> list[Value]:
        """The roots of the regions that read ``value``, directly or by computing it again."""
        return list(dict.fromkeys(map(self.host, self.readers(value))))

    def verdict(self, root: Value, buffers: set[Value], taps: tuple[Value, ...] | None = None) -> Verdict:
        """Whether and at what price one kernel computes ``root`` (and ``taps``) from ``buffers``; remembered."""
        body = self.body(root, buffers, taps)
        key = (body.outputs, frozenset(body.inputs))
        if key not in self._verdicts:
            verdict = self._twins.judge(body)
            self._verdicts[key] = verdict.once() if self.packable.issuperset(body.outputs) else verdict
        return self._verdicts[key]

    def needs(self, values: Iterable[Value], targets: Collection[Value]) -> bool:
        """Whether one of ``values`` is one of ``targets``, or computed from one; what a region stores beside its last
        result is there when that is."""
        hosts = {tap: host for host, taps in self.taps.items() for tap in taps}
        first = min(self.position[self.producers[target]] for target in targets)  # what comes before needs none
        seen: set[Value] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value in targets:
                return True
            if value in seen or value not in self.producers:
                continue
            seen.add(value)
            if value in hosts:
                stack.append(hosts[value])
            if hosts or self.position[self.producers[value]] > first:
                stack.extend(self.producers[value].inputs)
        return False

    def readers(self, value: Value, buffers: set[Value] | None = None) -> list[Value]:
        """The buffers whose regions read ``value``, directly or by computing it again."""
        stops = self.buffers if buffers is None else buffers
        found: dict[Value, None] = {}
        seen: set[Value] = {value}
        stack = [value]
        while stack:
            for op in self.users.get(stack.pop(), ()):
                for out in op.outputs if op.name != "extern" else ():
                    if out in seen:
                        continue
                    seen.add(out)
                    if out in stops and out not in self.numbers:
                        found[out] = None
                    else:
                        stack.append(out)
        return list(found)
