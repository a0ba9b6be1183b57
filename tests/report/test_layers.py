"""Layered drawings: what must hold of every one of them."""

from __future__ import annotations

import itertools

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooftile.report.page.layers import Drawing, Edge, Spacing, draw

SPACING = Spacing(across=10, down=20)


@st.composite
def graphs(made: st.DrawFn) -> tuple[dict[int, tuple[float, float]], list[Edge]]:
    """Boxes of any size, and edges from lower numbers to higher ones."""
    count = made(st.integers(1, 12))
    size = st.tuples(st.integers(10, 200), st.integers(10, 90))
    boxes = {n: made(size) for n in range(count)}
    pairs = list(itertools.combinations(range(count), 2))
    return boxes, made(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []


@given(graphs())
def test_boxes_do_not_overlap_and_edges_lead_down(graph: tuple[dict[int, tuple[float, float]], list[Edge]]) -> None:
    boxes, edges = graph
    drawing = draw(boxes, edges, SPACING)
    for a, b in itertools.combinations(boxes, 2):
        assert not _overlap(drawing, boxes, a, b)
    for start, end in edges:
        route = drawing.routes[start, end]
        assert route[0][1] == pytest.approx(drawing.corners[start][1] + boxes[start][1])
        assert route[-1][1] == pytest.approx(drawing.corners[end][1])
        assert all(y <= below for (_, y), (_, below) in itertools.pairwise(route))


@given(graphs())
def test_edges_pass_by_the_boxes_of_the_rows_that_they_cross(
    graph: tuple[dict[int, tuple[float, float]], list[Edge]],
) -> None:
    boxes, edges = graph
    drawing = draw(boxes, edges, SPACING)
    for start, end in edges:
        for x, y in drawing.routes[start, end][1:-1]:
            for key in boxes.keys() - {start, end}:
                left, top = drawing.corners[key]
                inside = left < x < left + boxes[key][0] and top <= y <= top + boxes[key][1]
                assert not inside


@given(graphs())
def test_everything_is_inside_the_drawing(graph: tuple[dict[int, tuple[float, float]], list[Edge]]) -> None:
    boxes, edges = graph
    drawing = draw(boxes, edges, SPACING)
    for key, (x, y) in drawing.corners.items():
        assert x >= -1e-6 and x + boxes[key][0] <= drawing.width + 1e-6 and y + boxes[key][1] <= drawing.height + 1e-6


def test_crossings_that_can_be_avoided_are() -> None:
    boxes = dict.fromkeys("abcdef", (20.0, 10.0))
    drawing = draw(boxes, [("a", "f"), ("b", "e"), ("c", "d")], SPACING)
    order = [sorted(row, key=lambda key: drawing.corners[key][0]) for row in ("abc", "def")]
    assert [{"a": "f", "b": "e", "c": "d"}[key] for key in order[0]] == order[1]


def test_a_chain_is_straight() -> None:
    drawing = draw({"a": (20, 10), "b": (60, 10), "c": (30, 10)}, [("a", "b"), ("b", "c")], SPACING)
    assert {x + w / 2 for (x, _), w in zip(drawing.corners.values(), (20, 60, 30), strict=True)} == {30}


def test_what_needs_nothing_stands_right_before_its_reader() -> None:
    boxes = dict.fromkeys(("a", "b", "c", "late"), (20.0, 10.0))
    drawing = draw(boxes, [("a", "b"), ("b", "c"), ("late", "c")], SPACING)
    assert drawing.corners["late"][1] == drawing.corners["b"][1]


def test_a_cycle_is_refused() -> None:
    with pytest.raises(nx.NetworkXUnfeasible):
        draw(dict.fromkeys("ab", (1.0, 1.0)), [("a", "b"), ("b", "a")], SPACING)


def test_nothing_gives_an_empty_drawing() -> None:
    assert draw({}, [], SPACING) == Drawing({}, {}, 0.0, 0.0)


def _overlap(drawing: Drawing, boxes: dict[int, tuple[float, float]], a: int, b: int) -> bool:
    (ax, ay), (bx, by) = drawing.corners[a], drawing.corners[b]
    (aw, ah), (bw, bh) = boxes[a], boxes[b]
    return ax < bx + bw - 1e-6 and bx < ax + aw - 1e-6 and ay < by + bh - 1e-6 and by < ay + ah - 1e-6
