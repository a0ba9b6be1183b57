"""Masks as loop bounds: the interval analysis and the skipping against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.dtypes import F32, I64
from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.ir.steps import LoopSteps, loop_steps
from rooftile.ir.verifier import verify
from rooftile.passes.base import PassContext
from rooftile.passes.lower import Lower
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.summarize import Summarize
from rooftile.target import CPU

Positions = tuple[Value, Value]
Mask = Callable[["Positional"], Value]


@dataclass
class Positional:
    """Builds a mask over positions ``i`` and ``j`` of a score; ``lengths`` is one number that is loaded."""

    builder: GraphBuilder
    i: Value
    j: Value
    length: Value

    def number(self, value: int) -> Value:
        return self.builder.broadcast(self.builder.constant(value, I64), self.i.shape)

    def op(self, fn: str, a: Value | int, b: Value | int) -> Value:
        a, b = (self.number(x) if isinstance(x, int) else x for x in (a, b))
        return self.builder.pointwise(fn, a, b)

    def negated(self, a: Value) -> Value:
        return self.builder.pointwise("not", a)


def causal(offset: int = 0) -> Mask:
    return lambda p: p.op("le", p.j, p.op("add", p.i, offset))


def window(size: int) -> Mask:
    return lambda p: p.op("gt", p.j, p.op("sub", p.i, size))


def prefix(size: int) -> Mask:
    return lambda p: p.op("lt", p.j, size)


def chunked(size: int) -> Mask:
    return lambda p: p.op("eq", p.op("floordiv", p.i, size), p.op("floordiv", p.j, size))


def dilated(step: int) -> Mask:
    return lambda p: p.op("eq", p.op("mod", p.op("sub", p.i, p.j), step), 0)


def padded() -> Mask:
    return lambda p: p.op("lt", p.j, p.length)


def late_rows(first: int) -> Mask:
    return lambda p: p.op("ge", p.i, first)


def both(a: Mask, b: Mask) -> Mask:
    return lambda p: p.op("and", a(p), b(p))


def either(a: Mask, b: Mask) -> Mask:
    return lambda p: p.op("or", a(p), b(p))


def opposite(a: Mask) -> Mask:
    return lambda p: p.negated(a(p))


def masked_rows(mask: Mask, rows: int, columns: int, fn: str = "sum") -> Graph:
    """The sum or the maximum of each row of ``x`` where ``mask`` holds."""
    b = GraphBuilder()
    x, length = b.input("x", TensorType(F32, (rows, columns))), b.input("length", TensorType(I64, ()))
    seen = mask(_positions(b, rows, columns, length))
    fill = b.broadcast(b.constant(0.0 if fn == "sum" else float("-inf"), F32), x.shape)
    return b.finish([b.reduce(fn, b.pointwise("where", seen, x, fill), [1])])


def _positions(b: GraphBuilder, rows: int, columns: int, length: Value) -> Positional:
    at = [b.op("iota", (), {"size": n, "dtype": I64}) for n in (rows, columns)]
    i, j = (b.expand(x, (rows, columns), (d,)) for d, x in enumerate(at))
    return Positional(b, i, j, b.broadcast(length, (rows, columns)))


def attention(mask: Mask, fill: float, rows: int, columns: int) -> Graph:
    """Softmax attention with scores that are ``fill`` where ``mask`` doesn't hold."""
    b = GraphBuilder()
    q, k, v = (b.input(n, TensorType(F32, (1, s, 16))) for n, s in (("q", rows), ("k", columns), ("v", columns)))
    length = b.input("length", TensorType(I64, ()))
    scores = b.einsum("hid,hjd->hij", q, k)
    seen = b.broadcast(mask(_positions(b, rows, columns, length)), scores.shape)
    scores = b.pointwise("where", seen, scores, b.broadcast(b.constant(fill, F32), scores.shape))
    p = b.pointwise("exp", b.pointwise("sub", scores, b.reduce("max", scores, [2], keepdim=True)))
    p = b.pointwise("div", p, b.reduce("sum", p, [2], keepdim=True))
    return b.finish([b.einsum("hij,hje->hie", p, v)])


def lowered(graph: Graph, tiles: dict[int, int], phases: int = 2) -> Graph:
    """The graph compiled with the tiles that ``tiles`` gives to axes of an extent, those that are reduced swept."""
    context = PassContext(CPU)
    tiled = Manager().run(graph, PIPELINE[:-2], context)[-1].graph
    ops = tuple(_scheduled(op, tiles, phases) if op.name == "region" else op for op in tiled.ops)
    result = Lower().run(Summarize(share=math.inf, added=True).run(replace(tiled, ops=ops), context), context)
    verify(result)
    return result


def _scheduled(op: Op, tiles: dict[int, int], phases: int) -> Op:
    schedule = Schedule.from_attrs(op.attrs)
    axes = tuple(_tiled(a, tiles, a.name in schedule.grid) for a in schedule.axes)
    return replace(op, attrs=freeze_attrs({**op.attrs, **replace(schedule, axes=axes, phases=phases).attrs()}))


def _tiled(a: Any, tiles: dict[int, int], on_grid: bool) -> Any:
    if a.extent not in tiles:
        return a
    return replace(a, tile=tiles[a.extent], role="grid" if on_grid else "loop")


def steps_of(graph: Graph) -> list[LoopSteps]:
    return [each for op in graph.ops if op.name == "region" for each in loop_steps(op.regions[1], {})]


FNS = ["sum", "max"]
ATOMS = st.one_of(
    st.builds(causal, st.integers(-9, 40)),
    st.builds(window, st.integers(1, 40)),
    st.builds(prefix, st.integers(-3, 60)),
    st.builds(chunked, st.integers(1, 20)),
    st.builds(dilated, st.integers(1, 4)),
    st.builds(late_rows, st.integers(-3, 50)),
    st.builds(padded),
)
MASKS = st.recursive(
    ATOMS, lambda m: st.one_of(st.builds(both, m, m), st.builds(either, m, m), st.builds(opposite, m)), max_leaves=4
)


@settings(max_examples=100)
@given(MASKS, st.sampled_from([(37, 41), (48, 64)]), st.integers(0, 60), st.sampled_from([1, 2]), st.sampled_from(FNS))
def test_what_is_skipped_counts_as_nothing(
    mask: Mask, shape: tuple[int, int], length: int, phases: int, fn: str
) -> None:
    rows, columns = shape
    graph = masked_rows(mask, rows, columns, fn)
    inputs = [torch.randint(1, 9, shape).float(), torch.tensor(length)]
    kernel = lowered(graph, {rows: 8, columns: 4}, phases)
    assert torch.equal(evaluate(kernel, inputs, lowered=True)[0], evaluate(graph, inputs)[0])


@pytest.mark.parametrize(
    ("mask", "holds"),
    [
        (causal(), lambda i, j: j <= i),
        (causal(5), lambda i, j: j <= i + 5),
        (both(causal(), window(10)), lambda i, j: (j <= i) & (j > i - 10)),
        (either(causal(), prefix(20)), lambda i, j: (j <= i) | (j < 20)),
        (both(causal(), either(window(6), prefix(3))), lambda i, j: (j <= i) & ((j > i - 6) | (j < 3))),
        (chunked(12), lambda i, j: i // 12 == j // 12),
        (opposite(causal()), lambda i, j: j > i),
        (both(late_rows(20), prefix(30)), lambda i, j: (i >= 20) & (j < 30)),
    ],
)
def test_only_steps_with_something_in_them_are_visited(mask: Mask, holds: Callable[..., torch.Tensor]) -> None:
    rows, columns, tile, step = 48, 64, 8, 4
    seen = holds(torch.arange(rows)[:, None], torch.arange(columns)[None, :])
    occupied = seen.unfold(0, tile, tile).unfold(1, step, step).any(-1).any(-1)
    (steps,) = steps_of(lowered(masked_rows(mask, rows, columns), {rows: tile, columns: step}))
    assert (steps.visited, steps.total) == (int(occupied.sum()), occupied.numel())


def test_steps_that_are_loaded_are_not_counted() -> None:
    (steps,) = steps_of(lowered(masked_rows(padded(), 48, 64), {48: 8, 64: 4}))
    assert steps.visited is None


def test_a_mask_that_holds_throughout_is_left_out() -> None:
    for phases, names in ((2, ("bare", "masked")), (1, ("masked",))):
        (steps,) = steps_of(lowered(masked_rows(causal(), 48, 64), {48: 8, 64: 4}, phases))
        assert steps.phases == names


FILLS = [float("-inf"), torch.finfo(torch.float32).min, -1e4]


@settings(max_examples=40)
@given(MASKS, st.sampled_from(FILLS), st.integers(0, 60), st.booleans())
def test_attention_skips_what_its_fill_allows(mask: Mask, fill: float, length: int, is_large: bool) -> None:
    """Rows with nothing to attend to are as in eager: NaN where the fill is infinite, the mean where it is not."""
    rows, columns = 37, 53
    graph = attention(mask, fill, rows, columns)
    q, k, v = (torch.randn(1, n, 16) for n in (rows, columns, columns))
    inputs = [q * (1e3 if is_large else 1.0), k, v, torch.tensor(length)]
    ours = evaluate(lowered(graph, {rows: 16, columns: 16}), inputs, lowered=True)[0]
    torch.testing.assert_close(ours, evaluate(graph, inputs)[0], equal_nan=True, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fill", FILLS)
def test_what_a_finite_fill_leaves_out_is_run_only_where_it_must(fill: float) -> None:
    found = steps_of(lowered(attention(causal(), fill, 64, 96), {64: 16, 96: 16}))
    (steps,) = [s for s in found if s.total == 4 * 6]
    assert steps.visited == 1 + 2 + 3 + 4
    assert steps.phases == (("bare", "masked") if fill == float("-inf") else ("bare", "masked", "rest"))


def test_the_derivation_says_what_is_skipped() -> None:
    context = PassContext(CPU)
    Manager().run(attention(causal(), float("-inf"), 600, 1100), PIPELINE, context)
    (step,) = [s for d in context.derivations for s in d.steps if s.rule == "skip"]
    assert step.before.endswith("< 1100")
    assert "highest(i + 1)" in step.after and "lowest(i + 1)" in step.after


def test_a_value_that_is_not_read_does_not_spread() -> None:
    """The stated exception: a NaN at a key that the mask hides from a whole tile of rows."""
    graph = attention(causal(), float("-inf"), 32, 32)
    q, k, v = (torch.randn(1, 32, 16) for _ in range(3))
    v[:, -1] = float("nan")
    ours = evaluate(lowered(graph, {32: 16}), [q, k, v, torch.tensor(0)], lowered=True)[0]
    assert ours[:, :16].isfinite().all() and ours[:, -1].isnan().all()
