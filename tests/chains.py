"""Random chains of reductions over one axis, and how much rounding each can be expected to show.

``x[R, N]`` and what is computed from it along ``N`` (*wide* values) are reduced to *row* values ``[R, 1]``, which later
wide values use again: ``exp(x - max)``, ``(x - mean)^2``, ``x / sum``. Intervals keep every value finite and tame,
unless anything may follow anything: the interval that all values are then taken to be in allows every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

import torch
from hypothesis import strategies as st

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import B1, BF16, F32
from rooftile.ir.evaluator import Evaluation
from rooftile.ir.graph_ops import GRAPH_OPS

LARGEST = 1e4
LENGTHS = (1, 7, 33, 48, 64, 90)
INPUT_RANGE = (-2.0, 2.0)
ANY_RANGE = (0.5, 2.0)  # what allows every step


@dataclass(frozen=True)
class Known:
    """A value and the interval that its elements lie in."""

    value: Value
    low: float
    high: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass
class Chain:
    """A chain under construction; ``rows`` and ``wides`` are what later steps may use. Only a ``tame`` one knows which
    numbers these may be."""

    draw: Callable[[Any], Any]
    length: int
    tame: bool
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    wides: list[Known] = field(default_factory=list)
    rows: list[Known] = field(default_factory=list)

    def one_of(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def wide(self) -> Known:
        """One of the wide values, most likely a late one."""
        found: Known = self.one_of([*self.wides, *self.wides[-1:] * 5])
        return found

    def row(self) -> Known:
        found: Known = self.one_of([*self.rows, *self.rows[-1:] * 3])
        return found

    def spread(self, row: Known) -> Value:
        """A row value at every position of the row."""
        rows, _ = self.wides[0].value.shape
        return self.builder.expand(row.value, (rows, self.length), (0, 1))

    def number(self, value: float, like: Value) -> Value:
        return self.builder.broadcast(self.builder.constant(value, F32), like.shape)

    def pointwise(self, fn: str, *operands: Value) -> Value:
        return self.builder.pointwise(fn, *operands)


Step = Callable[[Chain], Known | None]


def _minus_row(c: Chain) -> Known:
    x, r = c.wide(), c.row()
    return Known(c.pointwise("sub", x.value, c.spread(r)), x.low - r.high, x.high - r.low)


def _times_row(c: Chain) -> Known:
    x, r = c.wide(), c.row()
    most = x.largest * r.largest
    return Known(c.pointwise("mul", x.value, c.spread(r)), 0 if x.low >= 0 and r.low >= 0 else -most, most)


def _over_row(c: Chain) -> Known | None:
    x, r = c.wide(), c.row()
    if r.low < 0.05:
        return None
    low = 0.0 if x.low >= 0 else x.low / r.low
    return Known(c.pointwise("div", x.value, c.spread(r)), low, x.high / (r.low if x.high > 0 else r.high))


def _at_least_row(c: Chain) -> Known:
    x, r = c.wide(), c.row()
    return Known(c.pointwise("maximum", x.value, c.spread(r)), max(x.low, r.low), max(x.high, r.high))


def _exp(c: Chain) -> Known | None:
    x = c.wide()
    fn, base = c.one_of([("exp", 1.0), ("exp2", log(2))])
    if x.high > 4:
        return None
    return Known(c.pointwise(fn, x.value), exp(max(base * x.low, -80.0)) if x.low > -80 else 0.0, exp(base * x.high))


def _log(c: Chain) -> Known | None:
    x = c.wide()
    return Known(c.pointwise("log", x.value), log(x.low), log(x.high)) if x.low > 1e-6 else None


def _square(c: Chain) -> Known:
    x = c.wide()
    return Known(c.pointwise("mul", x.value, x.value), 0.0, x.largest**2)


def _abs(c: Chain) -> Known:
    x = c.wide()
    return Known(c.pointwise("abs", x.value), 0.0, x.largest)


def _times_wide(c: Chain) -> Known:
    x, y = c.wide(), c.wide()
    most = x.largest * y.largest
    return Known(c.pointwise("mul", x.value, y.value), 0.0 if x.low >= 0 and y.low >= 0 else -most, most)


def _plus_wide(c: Chain) -> Known:
    x, y = c.wide(), c.wide()
    return Known(c.pointwise("add", x.value, y.value), x.low + y.low, x.high + y.high)


def _times_column(c: Chain) -> Known:
    x, rows = c.wide(), c.wides[0].value.shape[0]
    column = c.builder.input("w", TensorType(F32, (c.length,)))
    scaled = c.pointwise("mul", x.value, c.builder.expand(column, (rows, c.length), (1,)))
    return Known(scaled, -2 * x.largest, 2 * x.largest)


def _where(c: Chain) -> Known:
    x = c.wide()
    fill = c.one_of([0.0, 1.0, -2.0])
    condition = c.builder.input("p", TensorType(B1, x.value.shape))
    chosen = c.pointwise("where", condition, x.value, c.number(fill, x.value))
    return Known(chosen, min(x.low, fill), max(x.high, fill))


def _rounded(c: Chain) -> Known:
    x = c.wide()
    more = 1e-2 * x.largest
    return Known(
        c.builder.cast(c.builder.cast(x.value, BF16), F32), x.low * 0.99 if x.low > 0 else x.low - more, x.high + more
    )


def _sum(c: Chain) -> Known:
    x = c.wide()
    total = c.builder.reduce("sum", x.value, [1], keepdim=True)
    return Known(total, x.low * c.length, x.high * c.length)


def _mean(c: Chain) -> Known:
    x = c.wide()
    total = c.builder.reduce("sum", x.value, [1], keepdim=True)
    return Known(c.pointwise("div", total, c.number(float(c.length), total)), x.low, x.high)


def _extreme(c: Chain) -> Known:
    x = c.wide()
    return Known(c.builder.reduce(c.one_of(["max", "max", "min"]), x.value, [1], keepdim=True), x.low, x.high)


def _contraction(c: Chain) -> Known:
    x, y = c.wide(), c.wide()
    most = x.largest * y.largest * c.length
    rows = c.wides[0].value.shape[0]
    total = c.builder.reshape(c.builder.einsum("rn,rn->r", x.value, y.value), (rows, 1))
    return Known(total, 0.0 if x.low >= 0 and y.low >= 0 else -most, most)


def _row_function(c: Chain) -> Known | None:
    r = c.row()
    kind = c.one_of(["log", "sqrt", "floor", "double", "guard"])
    if kind == "floor":
        return Known(c.pointwise("maximum", r.value, c.number(0.5, r.value)), max(r.low, 0.5), max(r.high, 0.5))
    if kind == "guard":
        infinite = c.pointwise("isinf", r.value)
        chosen = c.pointwise("where", infinite, c.number(0.0, r.value), r.value)
        return Known(chosen, min(r.low, 0.0), max(r.high, 0.0))
    if kind == "double":
        return Known(c.pointwise("mul", r.value, c.number(0.5, r.value)), 0.5 * r.low, 0.5 * r.high)
    if r.low <= 1e-6:
        return None
    if kind == "log":
        return Known(c.pointwise("log", r.value), log(r.low), log(r.high))
    return Known(c.pointwise("sqrt", r.value), r.low**0.5, r.high**0.5)


REDUCTIONS: tuple[Step, ...] = (_sum, _mean, _extreme, _extreme, _contraction)
WITH_ROWS: tuple[Step, ...] = (_minus_row, _minus_row, _times_row, _over_row, _over_row, _at_least_row)
ALONE: tuple[Step, ...] = (_exp, _exp, _log, _square, _abs, _times_wide, _plus_wide, _times_column, _where, _rounded)


@st.composite
def chains(draw: Any, tame: bool = True) -> Graph:
    """A chain of 2 to 5 reductions over an axis of 1 to 90 elements, which ends in a row value or in a stored row."""
    chain, interval = Chain(draw, draw(st.sampled_from(LENGTHS)), tame), INPUT_RANGE if tame else ANY_RANGE
    rows = draw(st.integers(1, 3))
    for name in ("x", "y")[: draw(st.integers(1, 2))]:
        chain.wides.append(Known(chain.builder.input(name, TensorType(F32, (rows, chain.length))), *interval))
    for _ in range(draw(st.integers(2, 5))):
        steps = [draw(st.sampled_from(WITH_ROWS))] if chain.rows else []
        steps += draw(st.lists(st.sampled_from(ALONE), max_size=2))
        for step in steps:
            _take(chain, chain.wides, step)
        _take(chain, chain.rows, draw(st.sampled_from(REDUCTIONS)))
        if chain.rows and draw(st.booleans()):
            _take(chain, chain.rows, _row_function)
    if chain.rows and draw(st.booleans()):
        _take(chain, chain.wides, draw(st.sampled_from(WITH_ROWS)))
    small = chain.rows[-1:] or chain.wides[-1:]
    ends = draw(st.sampled_from([small, small, chain.wides[-1:], [chain.wides[-1], *small]]))
    given = set(chain.builder.inputs)
    outputs = [e.value for e in ends if e.value not in given] or [chain.pointwise("neg", chain.wides[0].value)]
    return chain.builder.finish(list(dict.fromkeys(outputs)))


def _take(chain: Chain, into: list[Known], step: Step) -> None:
    """One more step, where its operands allow it and its result stays tame."""
    made = len(chain.builder.ops), len(chain.builder.inputs)
    known = step(chain)
    if known is not None and known.largest <= LARGEST:
        into.append(known if chain.tame else Known(known.value, *ANY_RANGE))
    else:
        del chain.builder.ops[made[0] :], chain.builder.inputs[made[1] :]


def overflows(graph: Graph, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether something in ``graph`` is no finite number in fp32 that is one in float64: then the order of evaluation
    decides where infinities stand."""
    values = {p: dict(zip(graph.inputs, inputs, strict=True)) for p in (False, True)}
    for op in graph.ops:
        reference = GRAPH_OPS[op.name].reference
        assert reference is not None
        for promote, known in values.items():
            results = reference(op, [known[v] for v in op.inputs], Evaluation(promote=promote))
            known.update(zip(op.outputs, results, strict=True))
    exact = values[True]
    return any(bool((exact[v].isfinite() & ~x.isfinite()).any()) for v, x in values[False].items())


def rounding(graph: Graph, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """The outputs in float64 with every value off by about a rounding: what any order of evaluation may come to."""
    generator = torch.Generator().manual_seed(seed)

    def off(x: torch.Tensor, step: float) -> torch.Tensor:
        if not x.is_floating_point():
            return x
        return x.double() * (1 + step * torch.randn(x.shape, generator=generator, dtype=torch.float64))

    narrow = any(v.dtype is BF16 for v in graph.values())
    step = torch.finfo(torch.bfloat16 if narrow else torch.float32).eps
    values = {v: off(x, step) for v, x in zip(graph.inputs, inputs, strict=True)}
    for op in graph.ops:
        reference = GRAPH_OPS[op.name].reference
        assert reference is not None
        results = reference(op, [values[v] for v in op.inputs], Evaluation(promote=True))
        exact = GRAPH_OPS[op.name].view or op.name == "constant"
        values.update((v, x if exact else off(x, step)) for v, x in zip(op.outputs, results, strict=True))
    return [values[v] for v in graph.outputs]
