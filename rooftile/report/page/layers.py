"""Layered drawings of directed acyclic graphs, after Sugiyama, Tagawa and Toda (1981): layers, dummies on long edges,
barycentres against crossings, coordinates."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

Key = Hashable
Edge = tuple[Key, Key]
Point = tuple[float, float]

_SWEEPS = 4  # down and up again, for the order in the layers; more change next to nothing on real graphs
_DUMMY_WIDTH = 10.0
_DUMMY_WEIGHT = 6.0  # an edge that passes by stays straight before a box is centred


@dataclass(frozen=True)
class Spacing:
    """The least distances in pixels between boxes of one layer, and between layers."""

    across: float
    down: float


@dataclass(frozen=True)
class Drawing:
    """Where everything is: the top left corner of each box, and for each edge the points that it passes through, from
    the bottom of one box to the top of another."""

    corners: Mapping[Key, Point]
    routes: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def draw(boxes: Mapping[Key, tuple[float, float]], edges: Sequence[Edge], spacing: Spacing) -> Drawing:
    """A drawing of ``boxes`` (width and height by key) in which every edge leads down.

    Raises:
        NetworkXUnfeasible: the edges have a cycle.
    """
    plan = _Plan.of(boxes, list(dict.fromkeys(edges)))
    _order(plan)
    x = _across(plan, spacing.across)
    tops = _tops(plan, spacing.down)
    left = min((x[n] - plan.width(n) / 2 for n in plan.layer), default=0.0)
    right = max((x[n] + plan.width(n) / 2 for n in plan.layer), default=0.0)
    corners = {n: (x[n] - plan.width(n) / 2 - left, tops[plan.layer[n]]) for n in boxes}
    routes = {edge: _route(plan, edge, x, tops, left) for edge in plan.paths}
    bottom = max((corners[n][1] + boxes[n][1] for n in boxes), default=0.0)
    return Drawing(corners, routes, right - left, bottom)


@dataclass
class _Plan:
    """The graph with a dummy, a pair ``(edge, layer)``, wherever an edge crosses a layer."""

    boxes: Mapping[Key, tuple[float, float]]
    layer: dict[Key, int]
    rows: list[list[Key]]
    paths: dict[Edge, list[Key]]
    above: dict[Key, list[Key]] = field(default_factory=dict)
    below: dict[Key, list[Key]] = field(default_factory=dict)

    @staticmethod
    def of(boxes: Mapping[Key, tuple[float, float]], edges: Sequence[Edge]) -> _Plan:
        layer = _layers(boxes, edges)
        rows: list[list[Key]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
        for node in boxes:
            rows[layer[node]].append(node)
        plan = _Plan(boxes, layer, rows, {})
        for edge in edges:
            plan.add(edge)
        return plan

    def add(self, edge: Edge) -> None:
        start, end = edge
        dummies: list[Key] = [(edge, level) for level in range(self.layer[start] + 1, self.layer[end])]
        for level, dummy in enumerate(dummies, start=self.layer[start] + 1):
            self.layer[dummy] = level
            self.rows[level].append(dummy)
        self.paths[edge] = [start, *dummies, end]
        for a, b in pairwise(self.paths[edge]):
            self.below.setdefault(a, []).append(b)
            self.above.setdefault(b, []).append(a)

    def width(self, node: Key) -> float:
        return self.boxes[node][0] if node in self.boxes else _DUMMY_WIDTH

    def height(self, node: Key) -> float:
        return self.boxes[node][1] if node in self.boxes else 0.0


def _layers(boxes: Mapping[Key, tuple[float, float]], edges: Sequence[Edge]) -> dict[Key, int]:
    """Each node's layer: behind all that it needs, what needs nothing right before its first reader."""
    graph: nx.DiGraph[Key] = nx.DiGraph()
    graph.add_nodes_from(boxes)
    graph.add_edges_from(edges)
    layer: dict[Key, int] = {}
    order = list(nx.lexicographical_topological_sort(graph, key={n: i for i, n in enumerate(boxes)}.__getitem__))
    for node in order:
        layer[node] = 1 + max((layer[p] for p in graph.predecessors(node)), default=-1)
    for node in order:
        if not graph.in_degree(node) and graph.out_degree(node):
            layer[node] = min(layer[s] for s in graph.successors(node)) - 1
    lowest = min(layer.values(), default=0)
    return {node: level - lowest for node, level in layer.items()}


def _order(plan: _Plan) -> None:
    """Order every row by the mean place of its neighbours, and keep the order with the fewest crossings."""
    best, fewest = [list(row) for row in plan.rows], _crossings(plan)
    place = {n: at for row in plan.rows for n, at in _places(row)}
    for _ in range(_SWEEPS):
        for rows, near in ((plan.rows[1:], plan.above), (plan.rows[-2::-1], plan.below)):
            for row in rows:
                means = {n: _mean([place[m] for m in near.get(n, ())], place[n]) for n in row}
                row.sort(key=means.__getitem__)
                place.update(_places(row))
        if (count := _crossings(plan)) < fewest:
            best, fewest = [list(row) for row in plan.rows], count
        if not fewest:
            break
    plan.rows = best


def _places(row: Sequence[Key]) -> list[tuple[Key, float]]:
    """Where each node stands in its row, from 0 to 1."""
    return [(n, (i + 0.5) / len(row)) for i, n in enumerate(row)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(plan: _Plan) -> int:
    """How many pairs of edges cross: inversions between neighbouring rows."""
    total = 0
    for upper, lower in pairwise(plan.rows):
        place = {n: i for i, n in enumerate(lower)}
        seen: list[int] = []
        for node in upper:
            ends = sorted(place[m] for m in plan.below.get(node, ()))
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _across(plan: _Plan, gap: float) -> dict[Key, float]:
    """The centre of every node: as near to its neighbours as the order and the gaps allow."""
    x: dict[Key, float] = {}
    for row in plan.rows:
        x |= _spread(plan, row, [0.0] * len(row), gap)
    for _ in range(_SWEEPS):
        for rows, near in ((plan.rows[1:], plan.above), (plan.rows[-2::-1], plan.below)):
            for row in rows:
                x |= _spread(plan, row, [_mean([x[m] for m in near.get(n, ())], x[n]) for n in row], gap)
    return x


def _spread(plan: _Plan, row: Sequence[Key], wanted: Sequence[float], gap: float) -> dict[Key, float]:
    """Centres in the order of ``row``, at least a gap apart, with the least weighted sum of squared distances to
    ``wanted``.

    With what lies left of each taken off, the centres must not decrease: an isotonic regression, by pooling.
    """
    offsets = [0.0]
    for a, b in pairwise(row):
        offsets.append(offsets[-1] + (plan.width(a) + plan.width(b)) / 2 + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight and number
    for node, want, offset in zip(row, wanted, offsets, strict=True):
        mean, weight, count = want - offset, 1.0 if node in plan.boxes else _DUMMY_WEIGHT, 1
        while pools and pools[-1][0] > mean:
            before, heavy, others = pools.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, count = weight + heavy, count + others
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return {n: mean + offset for n, mean, offset in zip(row, means, offsets, strict=True)}


def _tops(plan: _Plan, gap: float) -> list[float]:
    tops = [0.0]
    for row in plan.rows:
        tops.append(tops[-1] + max((plan.height(n) for n in row), default=0.0) + gap)
    return tops


def _route(plan: _Plan, edge: Edge, x: Mapping[Key, float], tops: Sequence[float], left: float) -> tuple[Point, ...]:
    """From the bottom of the first box through the dummies, past the whole height of their rows, to the last one."""
    start, *dummies, end = plan.paths[edge]
    points = [(x[start] - left, tops[plan.layer[start]] + plan.height(start))]
    for dummy in dummies:
        level = plan.layer[dummy]
        tall = max(plan.height(n) for n in plan.rows[level])
        points += [(x[dummy] - left, tops[level]), *([(x[dummy] - left, tops[level] + tall)] if tall else [])]
    return (*points, (x[end] - left, tops[plan.layer[end]]))
