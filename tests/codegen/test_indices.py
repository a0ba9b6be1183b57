"""Random index expressions: the text computes what they say, dropped guards always hold, ranges are right."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings

from rooftile.codegen.bounds import Range, range_of, range_of_term
from rooftile.codegen.emit import emit
from rooftile.codegen.guards import needed
from rooftile.codegen.space import Space
from rooftile.ir.builder import TileBuilder
from rooftile.ir.core import Graph, TensorType
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size, Symbol, axis, symbol, terms_of
from rooftile.ir.substitution import evaluate
from rooftile.target import CPU
from tests.codegen.cases import run

# name, extent, role, tile: ragged and even tiles, a tile of 1, an axis held whole
AXES = (("i", 10, "grid", 4), ("j", 8, "grid", 2), ("h", 3, "grid", 1), ("k", 5, "whole", 8))
LAST = {name: -(-extent // tile) * tile for name, extent, _, tile in AXES}
SIZE = 6


@st.composite
def sizes(draw: st.DrawFn, depth: int = 3) -> Size:
    """Expressions over the axes and a run-time size, with products large enough to need 64 bits, though not more."""
    size = draw(_any_sizes(depth))
    assume(within_int64(size))
    return size


def within_int64(size: Size) -> bool:
    """Whether no term of ``size``, and none in what it divides, outgrows 64 bits."""
    terms = terms_of(size).items()
    if sum(max(-r.low, r.high) for r in (range_of_term(*term, {"s": Range(1, 100)}) for term in terms)) >= 2**62:
        return False
    divided = (a for monomial, _ in terms for a in monomial if not isinstance(a, Symbol))
    return all(within_int64(a.num) and within_int64(a.den) for a in divided)


@st.composite
def _any_sizes(draw: st.DrawFn, depth: int) -> Size:
    leaves = [axis(name, extent) for name, extent, _, _ in AXES]
    leaf = st.sampled_from([*leaves, symbol("s", lo=1, hi=100)])
    if depth == 0:
        return draw(st.one_of(leaf, st.integers(-20, 20)))
    a = draw(_any_sizes(depth - 1))
    kind = draw(st.sampled_from(["add", "sub", "mul", "scale", "div", "mod", "leaf"]))
    if kind == "leaf":
        return draw(leaf)
    if kind == "scale":
        return a * draw(st.sampled_from([-3, 2, 64, 2**20]))
    if kind in ("div", "mod"):
        by = draw(st.integers(1, 9))
        return a // by if kind == "div" else a % by
    b = draw(_any_sizes(depth - 1))
    return a + b if kind == "add" else a - b if kind == "sub" else a * b


def _kernel(size: Size) -> Graph:
    """Stores the value of ``size`` at every position, those beyond the extents included."""
    b = TileBuilder("indices")
    symbols = {name: axis(name, extent) for name, extent, _, _ in AXES}
    y = b.input("y", TensorType(I64, tuple(LAST.values())))
    held = tuple((name, tile) for name, _, _, tile in AXES if tile > 1)
    value = b.op("index", (), {"expr": size, "axes": held})
    b.multi("store", (y, value), {"index": tuple(symbols.values()), "guard": ()})
    return b.finish(
        (), {"outputs": 1, "axes": AXES, "grid": ("j", "h", "i"), "group": ("i", 2), "num_warps": 4, "num_stages": 1}
    )


def _positions() -> list[dict[str, int]]:
    shape = tuple(LAST.values())
    return [dict(zip(LAST, map(int, at), strict=True)) for at in torch.ones(shape).nonzero()]


POSITIONS = _positions()


def assert_computed(size: Size) -> None:
    kernel = emit(_kernel(size), CPU)
    y = torch.empty(tuple(LAST.values()), dtype=torch.int64)
    run(kernel, [y], {"s": SIZE})
    exact = [evaluate(size, {**at, "s": SIZE}) for at in POSITIONS]
    assert y.flatten().tolist() == exact


@settings(max_examples=60)
@given(sizes())
def test_text_computes_the_expression(size: Size) -> None:
    assert_computed(size)


ROW, COLUMN, WHOLE = (axis(name, extent) for name, extent, *_ in (AXES[0], AXES[1], AXES[3]))


@pytest.mark.parametrize(
    "size",
    [
        ROW * 3 + 2**40,
        ROW * -(3 * 2**20) + 2**31,
        (ROW + COLUMN * 2) % 7 - 2**33,
        ROW * 2**27 + COLUMN * 2**28 + WHOLE * 2**40,
        ROW * 2**27 + COLUMN * 2**28 - (ROW * 2**27 + WHOLE),
        (ROW + 2**33) // 5 % 9,
    ],
    ids=str,
)
def test_a_sum_has_64_bits_before_it_needs_them(size: Size) -> None:
    assert_computed(size)


@settings(max_examples=100)
@given(sizes(depth=2), st.integers(1, 60))
def test_dropped_guards_hold_everywhere(size: Size, extent: int) -> None:
    conditions = needed(((size, extent),), Space.of(_kernel(size)))
    lower = any(not c.bound for c in conditions)
    upper = any(c.bound for c in conditions)
    for at in POSITIONS:
        for s in (1, SIZE, 100):
            value = evaluate(size, {**at, "s": s})
            assert lower or value >= 0
            assert upper or value < extent


@settings(max_examples=100)
@given(sizes())
def test_ranges_hold_everywhere(size: Size) -> None:
    kernel_range = range_of(size, {})
    inside = [at for at in POSITIONS if all(at[name] < extent for name, extent, _, _ in AXES)]
    for at in inside:
        for s in (1, SIZE, 100):
            assert kernel_range.low <= evaluate(size, {**at, "s": s}) <= kernel_range.high
