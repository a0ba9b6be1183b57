"""What has been found out about a region, said of one that is like it: values in the places of others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rooftile.ir.core import Graph, Value, unique_name
from rooftile.passes.derive import Derivation, Reason
from rooftile.passes.rules.linear import Step

_NAME = re.compile(r"%([\w.]+)")


@dataclass(frozen=True)
class Alike:
    """Two regions of one structure."""

    old: Graph
    new: Graph

    @cached_property
    def values(self) -> dict[Value, Value]:
        """What stands in the place of each value."""
        pairs = list(zip(self.old.inputs, self.new.inputs, strict=True))
        for a, b in zip(self.old.ops, self.new.ops, strict=True):
            pairs += zip(a.outputs, b.outputs, strict=True)
        return dict(pairs)

    @cached_property
    def names(self) -> dict[str, str]:
        return {a.name: b.name for a, b in self.values.items()}

    def name(self, name: str) -> str:
        """What stands in the place of the value called ``name``; one that a rule has made keeps its name."""
        return self.names.get(name, name)

    def text(self, text: str) -> str:
        return _NAME.sub(lambda found: f"%{self.name(found[1])}", text)

    def reason(self, reason: Reason) -> Reason:
        value = self.values.get(reason.value, reason.value)
        return Reason(reason.rule, value, self.text(reason.text))

    def graph(self, graph: Graph) -> Graph:
        """What a rule has made of the one, made of the other."""
        pairs = list(zip(self.old.ops, self.new.ops, strict=True))
        by_value, locs = {a.output: b.loc for a, b in pairs}, {a.loc: b.loc for a, b in pairs}
        values, taken = dict(self.values), {v.name for v in self.new.values()}
        for op in graph.ops:
            for value in op.outputs:
                if value not in values:
                    values[value] = Value(unique_name(value.name, taken), value.type)
                    taken.add(values[value].name)

        def swapped(old: Sequence[Value]) -> tuple[Value, ...]:
            return tuple(values[v] for v in old)

        ops = tuple(
            replace(
                op,
                inputs=swapped(op.inputs),
                outputs=swapped(op.outputs),
                loc=by_value.get(op.output, locs.get(op.loc, op.loc)),
            )
            for op in graph.ops
        )
        return replace(graph, name=self.new.name, inputs=swapped(graph.inputs), ops=ops, outputs=swapped(graph.outputs))

    def derivation(self, found: Derivation) -> Derivation:
        steps = tuple(Step(s.rule, self.text(s.before), self.text(s.after)) for s in found.steps)
        return Derivation(self.new.outputs[-1].name, self.graph(found.body), found.access, steps)
