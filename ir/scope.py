"""What is in sight at an op: values, axes and sizes; kept by the verifier as it walks a graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, Symbol
from rooftile.ir.text import GRAPH, TILE, Level, is_kernel


@dataclass(frozen=True)
class Axis:
    """An axis of a kernel."""

    extent: Size
    role: str
    tile: int


@dataclass(frozen=True)
class Scope:
    """The scope at one point of ``graph``.

    ``defined`` holds the values that may be read; ``names`` are taken in ``graph``. ``axes`` are the kernel's, of which
    those in ``open`` have a position here. ``buffers`` are the kernel's inputs, ``written`` those that it may store to.
    ``sizes`` holds the run-time sizes met anywhere so far, by name.
    """

    level: Level
    graph: Graph
    sizes: dict[str, Symbol]
    defined: set[Value] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    axes: dict[str, Axis] = field(default_factory=dict)
    open: frozenset[str] = frozenset()
    buffers: frozenset[Value] = frozenset()
    written: frozenset[Value] = frozenset()

    @staticmethod
    def of(graph: Graph, sizes: dict[str, Symbol]) -> Scope:
        """The scope at the start of a graph that sees nothing around it."""
        if not is_kernel(graph):
            return Scope(GRAPH, graph, sizes)
        axes = {name: Axis(extent, role, tile) for name, extent, role, tile in graph.attrs.get("axes", ())}
        first_output = len(graph.inputs) - graph.attrs.get("outputs", 0)
        return Scope(
            TILE,
            graph,
            sizes,
            axes=axes,
            open=frozenset(name for name, axis in axes.items() if axis.role not in ("loop", "ragged")),
            buffers=frozenset(graph.inputs),
            written=frozenset(graph.inputs[first_output:]),
        )

    def within(self, op: Op, region: Graph) -> Scope:
        """The scope at the start of ``op``'s ``region``; a loop's body sees what is around it and has its axis."""
        if self.level is GRAPH:
            return Scope.of(region, self.sizes)
        opened = self.open | {str(op.attrs.get("axis"))}
        return replace(self, graph=region, defined=set(self.defined), names=set(), open=opened)

    def behind(self, op: Op) -> Scope:
        """The scope behind ``op`` in the same graph: where it places a tile, the tile's axis has a position."""
        return replace(self, open=self.open | {str(op.attrs.get("axis"))}) if op.name == "place" else self

    def define(self, value: Value) -> None:
        """``value`` may be read from here on."""
        self.defined.add(value)
        self.names.add(value.name)
