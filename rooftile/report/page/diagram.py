"""The graph of a program as a drawing: a box for each kernel with its ops inside, and what flows between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.packing import input_kinds
from rooftile.report.accounting import computes, op_name
from rooftile.report.page.layers import Drawing, Edge, Key, Spacing, draw
from rooftile.runtime.plan import WEIGHTS

_INSIDE, _OUTSIDE = Spacing(14, 22), Spacing(44, 56)
_ROW, _PADDING, _HEADER = 24.0, 12.0, 44.0
_LETTER = 6.7  # the width of a character at the size of the labels
_LEAF_WIDTH, _LEAST_BOX = 92.0, 190.0


@dataclass(frozen=True)
class OpNode:
    """An op in a box, or a value that the box reads (``role`` ``input`` or ``weight``; else ``op``, ``heavy`` or
    ``stored``). ``line`` is the op's place among its region's, -1 for what is read."""

    label: str
    role: str
    line: int
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Inside:
    """What is in a box, in the box's own coordinates. Kernels that do the same share one."""

    nodes: tuple[OpNode, ...]
    edges: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


@dataclass(frozen=True)
class BoxNode:
    """A kernel (``step`` is its place in the plan), or an input or result of the program (``step`` is -1).

    ``leaves`` are the names of what it reads, in the order of the nodes of ``inside`` that show them.
    """

    name: str
    kind: str
    step: int
    inside: int
    leaves: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Flow:
    """What passes from one box to another, by their places, along ``points``."""

    value: str
    start: int
    end: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Diagram:
    """A whole program, in pixels."""

    boxes: tuple[BoxNode, ...]
    flows: tuple[Flow, ...]
    insides: tuple[Inside, ...]
    width: float
    height: float


def diagram_of(graph: Graph) -> Diagram:
    """The drawing of a graph of regions and ATen calls; weights are drawn in the boxes that read them."""
    kinds = input_kinds(graph)
    weights = {v for v, kind in zip(graph.inputs, kinds, strict=True) if kind in WEIGHTS}
    insides = _Insides(weights)
    contents = [insides.of(op) for op in graph.ops]
    read = {v for op in graph.ops for v in op.inputs} | set(graph.outputs)
    sources: dict[Value, Key] = {v: v for v in graph.inputs if v not in weights and v in read}
    sizes: dict[Key, tuple[float, float]] = {v: (_text_width(v.name), _ROW) for v in sources}
    for op, number in zip(graph.ops, contents, strict=True):
        inside = insides.found[number]
        sizes[op] = (max(inside.width, _LEAST_BOX), inside.height)
        sources |= dict.fromkeys(op.outputs, op)
    flows: list[tuple[Value, Edge]] = [
        (v, (sources[v], op)) for op in graph.ops for v in dict.fromkeys(op.inputs) if v in sources
    ]
    for n, value in enumerate(graph.outputs):
        if value in sources:
            sizes[n] = (_text_width(value.name), _ROW)
            flows.append((value, (sources[value], n)))
    drawing = draw(sizes, [edge for _, edge in flows], _OUTSIDE)
    return _diagram(graph, contents, insides, sizes, flows, drawing)


def _diagram(
    graph: Graph,
    contents: Sequence[int],
    insides: _Insides,
    sizes: Mapping[Key, tuple[float, float]],
    flows: Sequence[tuple[Value, Edge]],
    drawing: Drawing,
) -> Diagram:
    step = {op: n for n, op in enumerate(graph.ops)}
    place = {key: n for n, key in enumerate(sizes)}
    boxes = []
    for key, (width, height) in sizes.items():
        at = (*drawing.corners[key], width, height)
        if isinstance(key, Op):
            name = str(key.attrs["name"]) if key.name == "region" else op_name(key)
            leaves = tuple(v.name for v, _ in zip(key.inputs, _leaves(key), strict=False))
            boxes.append(BoxNode(name, key.name, step[key], contents[step[key]], leaves, *at))
        elif isinstance(key, Value):
            boxes.append(BoxNode(key.name, "input", -1, -1, (), *at))
        else:
            assert isinstance(key, int)
            boxes.append(BoxNode(graph.outputs[key].name, "result", -1, -1, (), *at))
    drawn = tuple(_flow(v, place[a], place[b], drawing.routes[a, b], boxes, insides.found) for v, (a, b) in flows)
    return Diagram(tuple(boxes), drawn, tuple(insides.found), drawing.width, drawing.height)


def _flow(
    value: Value,
    start: int,
    end: int,
    route: Sequence[tuple[float, float]],
    boxes: Sequence[BoxNode],
    insides: Sequence[Inside],
) -> Flow:
    """The route, arriving above the node that shows what is read."""
    *before, (x, y) = route
    box = boxes[end]
    if value.name in box.leaves:
        inside = insides[box.inside]
        leaf = [n for n in inside.nodes if n.line < 0][box.leaves.index(value.name)]
        x = box.x + (box.width - inside.width) / 2 + leaf.x + leaf.width / 2
    return Flow(value.name, start, end, (*before, (x, y)))


class _Insides:
    """The contents of boxes, each kind once."""

    def __init__(self, weights: set[Value]) -> None:
        self.found: list[Inside] = []
        self._weights = weights
        self._numbers: dict[str, int] = {}

    def of(self, op: Op) -> int:
        """The number of what the box of ``op`` holds."""
        inside = self._region(op) if op.name == "region" else self._call(op)
        key = json.dumps(asdict(inside))
        if key not in self._numbers:
            self._numbers[key] = len(self.found)
            self.found.append(inside)
        return self._numbers[key]

    def _call(self, op: Op) -> Inside:
        width = _text_width(op_name(op))
        node = OpNode(op_name(op), "heavy", -1, _PADDING, _HEADER, width)
        return Inside((node,), (), width + 2 * _PADDING, _HEADER + _ROW + _PADDING)

    def _region(self, region: Op) -> Inside:
        body = region.regions[0]
        seen_through = _through(body)
        shown = [op for op in body.ops if computes(op)] or [op for op in body.ops if op.outputs[0] in body.outputs]
        leaves = _leaves(region)
        outer = dict(zip(body.inputs, region.inputs, strict=False))  # what is told of a mask comes behind
        sizes: dict[Key, tuple[float, float]] = dict.fromkeys(leaves, (_LEAF_WIDTH, _ROW))
        sizes |= {op: (_text_width(_label(op)), _ROW) for op in shown}
        makers: dict[Value, Key] = {v: v for v in leaves} | {v: op for op in shown for v in op.outputs}
        edges: list[Edge] = []
        for op in shown:
            found = [makers[source] for v in op.inputs if (source := seen_through.get(v, v)) in makers]
            edges += [(source, op) for source in dict.fromkeys(found) if source is not op]
        drawing = draw(sizes, edges, _INSIDE)
        stored = {seen_through.get(v, v) for v in body.outputs}
        place = {op: n for n, op in enumerate(body.ops)}

        def node(key: Key) -> OpNode:
            x, y = drawing.corners[key]
            at = (x + _PADDING, y + _HEADER, sizes[key][0])
            if isinstance(key, Op):
                return OpNode(_label(key), _role(key, stored), place[key], *at)
            assert isinstance(key, Value)
            return OpNode("", "weight" if outer[key] in self._weights else "input", -1, *at)

        routes = tuple(tuple((x + _PADDING, y + _HEADER) for x, y in drawing.routes[e]) for e in dict.fromkeys(edges))
        width = max(drawing.width, _LEAST_BOX - 2 * _PADDING) + 2 * _PADDING
        return Inside(tuple(node(key) for key in sizes), routes, width, drawing.height + _HEADER + _PADDING)


def _leaves(region: Op) -> tuple[Value, ...]:
    """What a region reads, as its body calls it."""
    return region.regions[0].inputs if region.name == "region" else ()


def _through(body: Graph) -> dict[Value, Value]:
    """For each result of a view, the value whose elements it shows."""
    found: dict[Value, Value] = {}
    for op in body.ops:
        if not computes(op) and op.inputs:
            found[op.output] = found.get(op.inputs[0], op.inputs[0])
    return found


def _role(op: Op, stored: set[Value]) -> str:
    if stored.intersection(op.outputs):
        return "stored"
    return "heavy" if op.name in ("contract", "reduce", "scan") else "op"


def _label(op: Op) -> str:
    return op_name(op).removeprefix("reduce.")


def _text_width(text: str) -> float:
    return round(min(len(text), 40) * _LETTER + 20, 1)
