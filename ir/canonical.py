"""The canonical form: what a graph computes, without how it is called.

Values and axes are numbered in the order in which they occur; locations, names of graphs and regions, and names of
dimensions that are there for the reader are left out. So identical layers have one canonical text, one fingerprint and
one kernel, and a line that moves in the user's code changes nothing. Run-time sizes keep their names and facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any

from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.expr import Expr, Size, of
from rooftile.ir.printer import print_graph
from rooftile.ir.structure import LABELS
from rooftile.ir.substitution import rebuild
from rooftile.ir.text import GRAPH, NAME_ATTRS, TILE, Level, is_kernel

Renaming = tuple[tuple[str, str], ...]
_AXIS_ATTRS = NAME_ATTRS | {"axes", "defs"}  # attributes whose strings are names of axes


def fingerprint(graph: Graph) -> str:
    """The SHA-256 of the canonical text, in hexadecimal: equal for graphs that compute the same in the same way."""
    return sha256(canonical_text(graph).encode()).hexdigest()


def canonical_text(graph: Graph) -> str:
    """The text of the canonical form; two graphs are equal where it is."""
    return print_graph(canonical_graph(graph))


def canonical_graph(graph: Graph) -> Graph:
    """``graph`` with everything renamed in order and every label dropped."""
    if not is_kernel(graph):
        return _Canonical(GRAPH).graph(graph)
    axes = [name for name, *_ in graph.attrs["axes"]]
    return _Canonical(TILE, _numbered(axes)).graph(graph)


def _numbered(axes: list[str]) -> Renaming:
    return tuple((name, f"a{number}") for number, name in enumerate(axes))


@dataclass
class _Canonical:
    """Renames one graph and the loop bodies in it; ``axes`` are those of the kernel."""

    level: Level
    axes: Renaming = ()
    values: dict[Value, Value] = field(default_factory=dict)

    def graph(self, graph: Graph) -> Graph:
        inputs = tuple(self.define(v) for v in graph.inputs)
        ops = tuple(self.op(op) for op in graph.ops)
        attrs = {name: _renamed(value, self.axes, name in _AXIS_ATTRS) for name, value in graph.attrs.items()}
        return Graph("g", inputs, ops, tuple(self.values[v] for v in graph.outputs), freeze_attrs(attrs))

    def define(self, value: Value) -> Value:
        self.values[value] = Value(f"v{len(self.values)}", self.type(value.type))
        return self.values[value]

    def type(self, type: TensorType) -> TensorType:
        """At tile level the axes of tiles are part of the meaning; elsewhere they are for the reader."""
        if self.level is GRAPH or type.axes is None:
            return replace(type, axes=None)
        names = dict(self.axes)
        return replace(type, axes=tuple(names.get(a, a) for a in type.axes))

    def op(self, op: Op) -> Op:
        axes = _op_axes(op) if self.level is GRAPH else self.axes
        attrs = {
            name: _renamed(value, axes, name in _AXIS_ATTRS) for name, value in op.attrs.items() if name not in LABELS
        }
        inputs = tuple(self.values[v] for v in op.inputs)
        regions = tuple(self.graph(r) if self.level is TILE else canonical_graph(r) for r in op.regions)
        return Op(op.name, inputs, tuple(self.define(v) for v in op.outputs), freeze_attrs(attrs), regions)


def _op_axes(op: Op) -> Renaming:
    """The axes that a graph-level op binds."""
    return _numbered([*dict(op.attrs.get("axes", ())), *dict(op.attrs.get("defs", ()))])


def _renamed(value: Any, axes: Renaming, strings: bool) -> Any:
    if not axes:
        return value
    if isinstance(value, tuple):
        return tuple(_renamed(item, axes, strings) for item in value)
    if isinstance(value, Expr):
        return _renamed_expr(value, axes)
    return dict(axes).get(value, value) if strings and isinstance(value, str) else value


@lru_cache(maxsize=65536)
def _renamed_expr(expr: Expr, axes: Renaming) -> Size:
    names: Mapping[str, str] = dict(axes)
    return rebuild(expr, lambda s: of(s if s.extent is None else replace(s, name=names.get(s.name, s.name))))
