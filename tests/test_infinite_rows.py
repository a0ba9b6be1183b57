"""Chains of reductions where numbers are infinite, none, or zero: NaN and infinities stand where eager has them.

A state that follows its references as long as all numbers are finite is computed once more by the programs in which
they are not; a sum from which a factor can't be taken then is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rooftile.accuracy import error, promised, truth
from rooftile.compilation import Compilation
from rooftile.ir import tile_evaluator
from rooftile.ir.core import Graph, Op
from rooftile.ir.evaluator import evaluate
from rooftile.ir.steps import AGAIN, loop_steps
from rooftile.ir.tile_ops import loop_ranges
from tests.chains import chains, overflows, rounding
from tests.strategies import inputs_for
from tests.test_reduction_chains import (
    assert_explained,
    assert_kept,
    bottom,
    compile_small,
    entropy,
    imported,
    layer_norm,
    log_sum_exp,
    ordinary_and_extreme_rows,
    rms_norm,
    softmax,
    softmin,
    sweeps,
    third_moment,
    top,
    total,
    two_pass_variance,
)

LENGTH = 72


def largest(x: Tensor) -> Tensor:
    return x.amax(-1, keepdim=True)


def row_product(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("rn,rn->r", x, y)[:, None]


def guarded_mean(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return torch.where(mean.isinf(), 0.0, mean)


# One sweep as long as numbers are finite; by what differed from eager.
CORRECTED: dict[str, Callable[[Tensor], Tensor]] = {
    "an infinite deviation from an extreme": lambda x: ((x - largest(x)) ** 2).sum(-1),
    "an infinite deviation from an exponential's": lambda x: ((x - bottom(x)) ** 2).sum(-1),
    "a product of infinite deviations": lambda x: row_product(x - largest(x), x - largest(x)),
    "an infinite shift of an extreme": lambda x: (x - total(x)).amin(-1),
    "an infinite shift, by a root": lambda x: (x - top(x).sqrt()).sum(-1),
    "an infinite shift in an exponent, by a root": lambda x: (x - top(x).sqrt()).exp().sum(-1),
    "an infinite shift in an exponent, by a logarithm": lambda x: (x - top(x).log()).exp().sum(-1),
    "an infinite factor": lambda x: (x.exp2().exp2() * largest(x.exp2().exp2())).amax(-1),
    "an infinite factor of a power": lambda x: ((x * x) * largest(x * x)).abs().sqrt().sum(-1),
    "a divisor that is zero": lambda x: (x / largest(x.abs()).sqrt()).sum(-1),
    "weights that are infinite": lambda x: (x * (x * x - total(x))).sum(-1),
    "a mean that is guarded": lambda x: ((x - guarded_mean(x)) ** 2).sum(-1),
    "a NaN that a choice leaves out": lambda x: torch.where(x > -0.5, 0.0, (x - largest(x)).exp()).sum(-1),
    "two that follow one another": lambda x: (x - total((x - largest(x)) ** 2)).amax(-1),
    "three that follow one another": lambda x: ((x - total((x - total(x - bottom(x))) ** 2)) ** 2).sum(-1),
}

# A factor that may be infinite is not taken out of a sum, which takes another sweep.
NOT_COMMUTED: dict[str, Callable[[Tensor], Tensor]] = {
    "an extreme": lambda x: (x * x.amin(-1, keepdim=True)).sum(-1),
    "a sum": lambda x: (x.exp() * total(x)).sum(-1),
    "a sum, twice": lambda x: (x * total(x) * total(x)).sum(-1),
    "a divisor that may be zero": lambda x: (x / total(x)).sum(-1),
    "a sum of squares without an offset": lambda x: (x * total(x * x).rsqrt()).sum(-1),
    "terms of either sign": lambda x: row_product(x / x.amin(-1, keepdim=True) + x, x),
    "a row's product with another": lambda x: row_product(x.exp2(), x * largest(x)),
}

# One that never is leaves the sum.
COMMUTED: dict[str, Callable[[Tensor], Tensor]] = {
    "a sum of what it divides": lambda x: (x.abs() * x / total(x.abs())).sum(-1),
    "the norm of what it divides": lambda x: (x / total(x * x).sqrt()).sum(-1),
    "a root with an offset": lambda x: (x * ((x * x).mean(-1, keepdim=True) + 1e-6).rsqrt()).sum(-1),
    "a divisor with an offset": lambda x: (x / (total(x.abs()) + 1.0)).sum(-1),
    "a divisor with a floor": lambda x: (x / total(x).clamp(min=0.5)).sum(-1),
    "a sigmoid": lambda x: (x * total(x).sigmoid()).sum(-1),
}


def compiled(function: Callable[[Tensor], Tensor]) -> tuple[Graph, Compilation, Callable[..., list[Tensor]]]:
    graph = imported(function, (torch.zeros(4, LENGTH),))
    return graph, *compile_small(graph)


def loops(op: Op) -> Iterator[Op]:
    """The loops of a region's kernel."""
    stack = list(op.regions[1].ops)
    while stack:
        inner = stack.pop()
        stack.extend(o for region in inner.regions for o in region.ops)
        if inner.name == "loop":
            yield inner


def assert_kept_in_every_row(graph: Graph, program: Callable[..., list[Tensor]]) -> None:
    for kind, x in ordinary_and_extreme_rows(LENGTH).items():
        assert_kept(graph, (x,), program([x], {}), kind)


@pytest.mark.parametrize("name", CORRECTED)
def test_a_state_that_may_be_wrong_is_computed_again(name: str) -> None:
    graph, compilation, program = compiled(CORRECTED[name])
    (region,) = compilation.graph.ops
    assert max(sweeps(region).values()) == 1
    assert any(loop.attrs["phase"] == AGAIN for loop in loops(region))
    assert_kept_in_every_row(graph, program)


@pytest.mark.parametrize("name", NOT_COMMUTED)
def test_a_factor_that_may_be_infinite_stays_in_its_sum(name: str) -> None:
    graph, compilation, program = compiled(NOT_COMMUTED[name])
    assert {"commute", "split"}.isdisjoint(step.rule for d in compilation.context.derivations for step in d.steps)
    assert_explained(compilation)
    assert_kept_in_every_row(graph, program)


@pytest.mark.parametrize("name", COMMUTED)
def test_a_factor_that_is_never_infinite_leaves_its_sum(name: str) -> None:
    graph, compilation, program = compiled(COMMUTED[name])
    assert "commute" in {step.rule for d in compilation.context.derivations for step in d.steps}
    assert max(sweeps(compilation.graph.ops[0]).values()) == 1
    assert_kept_in_every_row(graph, program)


def safe_softmax(x: Tensor) -> Tensor:
    top = x.amax(-1, keepdim=True)
    e = (x - torch.where(top == -torch.inf, 0.0, top)).exp()
    return e / e.sum(-1, keepdim=True)


def masked_softmax(x: Tensor) -> Tensor:
    return torch.where(x > -0.5, x / 8, -torch.inf).softmax(-1)


def softmax_below_the_top(x: Tensor) -> Tensor:
    return (x - x.amax(-1, keepdim=True)).softmax(-1)


def scaled_log_sum_exp(x: Tensor) -> Tensor:
    return (30 * (x / 30).tanh()).logsumexp(-1)


@pytest.mark.parametrize(
    "function",
    [
        softmax,
        softmin,
        safe_softmax,
        masked_softmax,
        softmax_below_the_top,
        log_sum_exp,
        scaled_log_sum_exp,
        layer_norm,
        rms_norm,
        two_pass_variance,
        third_moment,
    ],
    ids=lambda f: f.__name__,
)
def test_softmaxes_and_norms_are_right_without_another_loop(function: Callable[[Tensor], Tensor]) -> None:
    graph, compilation, program = compiled(function)
    assert not any(loop.attrs["phase"] == AGAIN for op in compilation.graph.ops for loop in loops(op))
    assert_kept_in_every_row(graph, program)


@pytest.mark.parametrize("kind", ["x", "equal", "infinite"])
def test_only_programs_with_infinite_numbers_run_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = ordinary_and_extreme_rows(LENGTH)[kind][1:3]
    (region,) = compile_small(imported(CORRECTED["an infinite deviation from an extreme"], (x,)))[0].graph.ops
    run: list[int] = []
    plain = tile_evaluator._RUN["loop"]

    def counting(program: Any, op: Op) -> list[Tensor]:
        if op.attrs["phase"] == AGAIN:
            run.extend(int(program.values[end]) for _, end in loop_ranges(op))
        return plain(program, op)

    monkeypatch.setitem(tile_evaluator._RUN, "loop", counting)
    tile_evaluator.run_region(region, [x], {})
    assert set(run) == ({LENGTH} if kind == "infinite" else {0})


def test_the_report_counts_no_steps_that_only_infinite_numbers_take() -> None:
    _, compilation, _ = compiled(entropy)
    (region,) = compilation.graph.ops
    (counted,) = loop_steps(region.regions[1], {})
    assert len(list(loops(region))) > 1
    assert counted.visited == counted.total and counted.phases == ("all",)


KINDS = ("infinite", "zeros", "late", "steep", "equal", "x")


@pytest.mark.parametrize("tame", [True, False])
def test_chains_over_extreme_rows(tame: bool) -> None:
    @given(chains(tame), st.integers(0, 1000))
    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    def check(graph: Graph, seed: int) -> None:
        _, program = compile_small(graph)
        for number in range(len(KINDS)):
            inputs = [
                extreme(tuple(x.shape), seed + number + place) if x.dtype is torch.float32 and x.dim() == 2 else x
                for place, x in enumerate(inputs_for(graph, seed))
            ]
            assert_same_numbers(graph, inputs, program(list(inputs), {}))

    check()


def extreme(shape: tuple[int, ...], number: int) -> Tensor:
    """Rows of one kind, from the first or from a later one on."""
    rows, length = shape
    kinds = ordinary_and_extreme_rows(max(length, 6))[KINDS[number % len(KINDS)]]
    first = number // len(KINDS) % 4
    return kinds.roll(-first, 0)[:rows, -length:].contiguous()


def assert_same_numbers(graph: Graph, inputs: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
    """NaN and infinities are eager's, unless rounding decides on them, or the order of evaluation does since something
    overflows. Numbers are as near as in some order of evaluation, but for what it costs that a reference was 10^4 from
    where it ends."""
    eager, exact = evaluate(graph, inputs), truth(graph, inputs)
    others = [rounding(graph, inputs, n) for n in range(3)]
    kept = promised(ours, eager, exact)
    decided = all(each.same_nonfinite for other in others for each in promised(other, eager, exact))
    for number, accuracy in enumerate(kept):
        luck = max(error(other[number], exact[number]) for other in others)
        assert not decided or overflows(graph, inputs) or accuracy.same_nonfinite, accuracy
        assert not decided or accuracy.ours <= accuracy.allowed + luck + 1e-4, (accuracy, luck)
