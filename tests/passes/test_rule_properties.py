"""What the rules rest on, against brute force: the scalar table's algebra, sums rewritten at random, running states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import F32
from rooftile.ir.evaluator import evaluate
from rooftile.ir.scalar import SCALARS, Scalar
from rooftile.passes.rules import linear

COLUMN = torch.linspace(-3, 3, 61, dtype=torch.float64)
POSITIVE = torch.tensor([0.25, 1.0, 3.5], dtype=torch.float64)


def samples(row: Scalar, positive: frozenset[int] = frozenset()) -> list[torch.Tensor]:
    """Random operands for ``row``; those in ``positive`` are not negative."""
    generator = torch.Generator().manual_seed(row.arity)
    operands = [torch.randn(500, generator=generator, dtype=torch.float64) for _ in range(row.arity)]
    if row.chooses:
        operands[0] = operands[0] > 0
    return [x.abs() if n in positive else x for n, x in enumerate(operands)]


def rows_with(column: str) -> list[Scalar]:
    return [row for row in SCALARS.values() if getattr(row, column)]


@pytest.mark.parametrize("row", rows_with("multiplicative"), ids=lambda row: row.name)
def test_a_positive_factor_passes_through_as_a_factor(row: Scalar) -> None:
    first, *rest = samples(row, frozenset({0}))
    for factor in POSITIVE:
        scaled = row.reference(first * factor, *rest)
        torch.testing.assert_close(scaled, row.reference(first, *rest) * row.reference(factor.expand(500), *rest))


@pytest.mark.parametrize("row", rows_with("nonnegative"), ids=lambda row: row.name)
def test_what_is_declared_is_never_negative(row: Scalar) -> None:
    for operands in row.nonnegative:
        result = row.reference(*samples(row, operands))
        assert not (result < 0).any()


@pytest.mark.parametrize("row", rows_with("turns_shift_into_factor"), ids=lambda row: row.name)
def test_a_shift_becomes_a_factor(row: Scalar) -> None:
    for shift in POSITIVE:
        torch.testing.assert_close(row.reference(COLUMN + shift), row.reference(COLUMN) * row.reference(shift))


@pytest.mark.parametrize("row", rows_with("nondecreasing"), ids=lambda row: row.name)
def test_what_is_declared_never_decreases(row: Scalar) -> None:
    for operand in row.nondecreasing:
        below = samples(row)
        above = [x + 0.5 if n == operand else x for n, x in enumerate(below)]
        before, after = row.reference(*below), row.reference(*above)
        assert not (after < before).any()


ROWS, INNER = 3, 5


@st.composite
def sums(draw: Any) -> Graph:
    """A sum along the columns of an expression of ``x[ROWS, INNER]``, ``y`` like it, and a number for each row."""
    b = GraphBuilder()
    x, y = (b.input(name, TensorType(F32, (ROWS, INNER))) for name in "xy")
    r = b.broadcast(b.input("r", TensorType(F32, (ROWS, 1))), (ROWS, INNER))
    values: list[Value] = [x, y, r]
    for _ in range(draw(st.integers(1, 6))):
        fn = draw(st.sampled_from(["add", "sub", "mul", "neg", "div", "where"]))
        first, second = (draw(st.sampled_from([*values, *values[-2:]])) for _ in range(2))
        if fn == "neg":
            values.append(b.pointwise("neg", first))
        elif fn == "where":
            zero = b.broadcast(b.constant(0.0, F32), (ROWS, INNER))
            values.append(b.pointwise("where", b.pointwise("gt", x, y), first, zero))
        else:
            values.append(b.pointwise(fn, first, r if fn == "div" else second))
    return b.finish([b.reduce("sum", values[-1], [1])])


@given(sums(), st.booleans(), st.integers(0, 100))
@settings(max_examples=200)
def test_sums_are_the_same_without_their_factors(before: Graph, split: bool, seed: int) -> None:
    applied = linear.apply(before, next(op for op in before.ops if op.name == "reduce"), split)
    if applied is None:
        return
    generator = torch.Generator().manual_seed(seed)
    shapes = [[int(str(n)) for n in v.shape] for v in before.inputs]
    inputs = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5 for shape in shapes]
    (expected,), (found,) = (evaluate(graph, inputs, promote=True) for graph in (before, applied[0]))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert applied[1]
