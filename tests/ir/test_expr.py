"""The size arithmetic against brute force: whatever is simplified or claimed must hold at every point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.ir.division import ceildiv, divides, floordiv, mod
from rooftile.ir.expr import Expr, Size, axis, of, symbol
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least, in_range
from rooftile.ir.substitution import evaluate, rebuild, substitute

Point = Mapping[str, int]

# Sizes s (1..9), t (a multiple of 4, up to 12); axes i < 6, j < 4, k < s, l < t // 2, m < 1.
S, T = symbol("s", lo=1, hi=9), symbol("t", lo=4, hi=12, divisor=4)
AXES = {"i": 6, "j": 4, "k": S, "l": floordiv(T, 2), "m": 1}
LEAVES: dict[str, Size] = {"s": S, "t": T, **{name: axis(name, extent) for name, extent in AXES.items()}}


def points() -> Iterator[Point]:
    """Every assignment that the facts allow."""
    for s, t in product(range(1, 10, 2), (4, 8, 12)):
        sizes = {"s": s, "t": t}
        ranges = [range(evaluate(extent, sizes)) for extent in AXES.values()]
        for position in product(*ranges):
            yield sizes | dict(zip(AXES, position, strict=True))


POINTS = list(points())


@dataclass(frozen=True)
class Built:
    """An expression, and what it should be at a point."""

    size: Size
    at: Callable[[Point], int]


def _leaf(name: str) -> Built:
    return Built(LEAVES[name], lambda p: p[name])


def _number(value: int) -> Built:
    return Built(value, lambda _: value)


def _binary(parts: tuple[str, Built, Built]) -> Built:
    name, a, b = parts
    if name == "+":
        return Built(add(a.size, b.size), lambda p: a.at(p) + b.at(p))
    return Built(mul(a.size, b.size), lambda p: a.at(p) * b.at(p))


def _division(parts: tuple[str, Built, Built]) -> Built:
    name, a, den = parts
    if name == "//":
        return Built(floordiv(a.size, den.size), lambda p: a.at(p) // den.at(p))
    return Built(mod(a.size, den.size), lambda p: a.at(p) % den.at(p))


DIVISORS = st.one_of(st.integers(1, 8).map(_number), st.sampled_from(["s", "t"]).map(_leaf))
EXPRESSIONS = st.recursive(
    st.one_of(st.sampled_from(sorted(LEAVES)).map(_leaf), st.integers(-6, 12).map(_number)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "+", "*"]), inner, inner).map(_binary),
        st.tuples(st.sampled_from(["//", "%"]), inner, DIVISORS).map(_division),
    ),
    max_leaves=7,
)


@given(EXPRESSIONS)
@settings(max_examples=400)
def test_simplified_equals_unsimplified(built: Built) -> None:
    for point in POINTS[::7]:
        assert evaluate(built.size, point) == built.at(point)


@given(EXPRESSIONS)
@settings(max_examples=300)
def test_canonical_form_is_a_fixed_point(built: Built) -> None:
    assert rebuild(built.size, of) == built.size


@given(EXPRESSIONS, st.integers(-3, 10))
@settings(max_examples=400)
def test_at_least_claims_hold(built: Built, bound: int) -> None:
    if at_least(built.size, bound):
        assert all(evaluate(built.size, p) >= bound for p in POINTS)


@given(EXPRESSIONS, st.one_of(st.integers(1, 12), st.sampled_from([S, T, floordiv(T, 2)])))
@settings(max_examples=400)
def test_in_range_claims_hold(built: Built, extent: Size) -> None:
    if in_range(built.size, extent):
        assert all(0 <= evaluate(built.size, p) < evaluate(extent, p) for p in POINTS)


@given(EXPRESSIONS, st.integers(1, 8))
@settings(max_examples=200)
def test_divides_claims_hold(built: Built, den: int) -> None:
    if divides(den, built.size):
        assert all(evaluate(built.size, p) % den == 0 for p in POINTS)


@given(EXPRESSIONS, st.integers(0, 5), st.integers(1, 9))
@settings(max_examples=200)
def test_substitution(built: Built, i: int, s: int) -> None:
    bound = substitute(built.size, {"i": i, "m": 0})
    for point in POINTS[:: len(POINTS) // 50]:
        assert evaluate(bound, point) == built.at({**point, "i": i, "m": 0})


AI, AJ, AK, AL = (LEAVES[name] for name in "ijkl")
N, U = symbol("n", lo=1), symbol("u", lo=2, divisor=2)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (floordiv(AI * 4 + AJ, 4), "i"),
        (mod(AI * 4 + AJ, 4), "j"),
        (floordiv(AK * T + AL, T), "k"),
        (floordiv(N, 4) * 4 + mod(N, 4), "n"),
        (floordiv(T, 4) * 4, "t"),
        (floordiv(T * 2, 8), "t // 4"),
        (floordiv(T * N * U, 8), "n * (t // 4) * (u // 2)"),
        (floordiv(T * N * U, 8) * 8, "n * t * u"),
        (floordiv(T * N * U, 16), "(n * t * u) // 16"),
        (floordiv(N * N, N * 2), "n // 2"),
        (floordiv(N * S + N, N * T), "(s + 1) // t"),
        (floordiv(N * AI, T * AI), "(i * n) // (i * t)"),
        (floordiv(floordiv(N, 2), 3), "n // 6"),
        (floordiv(floordiv(N, 3) * 2, 4), "n // 6"),
        (mod(mod(N, 12), 4), "n % 4"),
        (floordiv(N * 6 + 4, 4), "(n * 3) // 2 + 1"),
        (floordiv(N * 12 + AJ, 24), "n // 2"),
        (mod(N * 12 + AJ, 24), "j + (n % 2) * 12"),
        (floordiv(N * 12 + AJ, T * 6), "(n * 2) // t"),
        (ceildiv(N, 64), "(n + 63) // 64"),
        (AI - floordiv(N, 4), "i - (n // 4)"),
        (mod(N, 4) * 3 + 1, "(n % 4) * 3 + 1"),
    ],
)
def test_simplification(size: Size, text: str) -> None:
    assert str(size) == text


@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (ceildiv(N, 64) * 64 - N, 0),  # a tile-rounded extent covers the extent
        (N + 63 - ceildiv(N, 64) * 64, 0),
        (4096 - symbol("z", hi=4096), 0),
        (N * N - N, 0),
        (AI - floordiv(AI, 4) * 4, 0),
        (T - floordiv(axis("u", T), 4) * 4 - AJ, 1),
        (N * S - N, 0),
    ],
)
def test_provable_bounds(size: Size, bound: int) -> None:
    assert at_least(size, bound)


def test_a_claim_that_is_false_is_not_made() -> None:
    assert not at_least(N - floordiv(N, 2) * 2, 1)
    assert not at_least(N - floordiv(N, 2) - floordiv(N, 3) * 2, 0)
    assert not in_range(AI, 5)
    assert not at_least(add(N, -2), 0)


def test_evaluate_needs_every_symbol() -> None:
    assert isinstance(S, Expr)
    with pytest.raises(KeyError):
        evaluate(S + 1, {})
