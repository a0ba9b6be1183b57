"""What has been found out about a region, said of one that is like it: values in the places of others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rooftile.ir.core import Graph, Loc, Op, Value, unique_name
from rooftile.ir.stems import without_number
from rooftile.passes.rules.steps import Step

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

    @cached_property
    def locs(self) -> dict[Value | Loc, Loc]:
        """Where what stands in the place of a value, or of what is from a line, is from."""
        pairs = list(zip(self.old.ops, self.new.ops, strict=True))
        return {a.loc: b.loc for a, b in pairs} | {v: b.loc for a, b in pairs for v in a.outputs}

    def name(self, name: str) -> str:
        """What stands in the place of the value called ``name``; one that a rule has made keeps its name."""
        return self.names.get(name, name)

    def text(self, text: str) -> str:
        return _NAME.sub(lambda found: f"%{self.name(found[1])}", text)

    def steps(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(Step(s.rule, self.text(s.before), self.text(s.after)) for s in steps)

    def graph(self, graph: Graph) -> Graph:
        """What a rule has made of the one, made of the other."""
        return self.copies({v.name for v in self.new.values()}).graph(graph, self.new.name)

    def copies(self, taken: set[str]) -> Copies:
        """Copies of what has been made of the one; values of their own get names that are not ``taken``."""
        return Copies(self, taken)


class Copies:
    """What has been made of one region, made of one like it: graphs that may share values."""

    def __init__(self, alike: Alike, taken: set[str]) -> None:
        self._alike, self._taken = alike, taken
        self._values: dict[Value, Value] = dict(alike.values)

    def place(self, old: Sequence[Value], new: Sequence[Value]) -> None:
        """Let ``new`` stand in the places of ``old``."""
        self._values.update(zip(old, new, strict=True))

    def values(self, old: Sequence[Value]) -> tuple[Value, ...]:
        """What stands in the places of ``old``."""
        return tuple([self._values[v] if v in self._values else self._made(v) for v in old])

    def graph(self, graph: Graph, name: str) -> Graph:
        """``graph`` under another name, and the loops in it."""
        inputs, ops = self.values(graph.inputs), tuple([self._op(op) for op in graph.ops])
        return replace(graph, name=name, inputs=inputs, ops=ops, outputs=self.values(graph.outputs))

    def _op(self, op: Op) -> Op:
        inputs, outputs = self.values(op.inputs), self.values(op.outputs)
        regions = tuple([self.graph(region, region.name) for region in op.regions])
        locs = self._alike.locs
        loc = next((locs[v] for v in op.outputs if v in locs), locs.get(op.loc, op.loc))
        return Op(op.name, inputs, outputs, op.attrs, regions, loc)

    def _made(self, value: Value) -> Value:
        """One that has been made from others, and is called after them."""
        name = unique_name(self._wanted(value.name), self._taken)
        self._taken.add(name)
        made = self._values[value] = Value(name, value.type)
        return made

    def _wanted(self, name: str) -> str:
        """``name`` after what stands in the place of what it was called after."""
        names, start = self._alike.names, name
        while start:
            if start in names:
                return names[start] + without_number(name[len(start) :])
            start = start.rpartition("_")[0]
        return without_number(name) if name in self._taken else name
