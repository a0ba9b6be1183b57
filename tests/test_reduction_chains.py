"""Chains of reductions: swept as often as the rules need, cut with a reason, never wrong.

What no tile holds is swept. So that small sizes are swept too, the CPU's tiles are made small here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import rooftile
from rooftile.accuracy import error, promised, truth
from rooftile.codegen.together import emit_all
from rooftile.compilation import Compilation, Runnable
from rooftile.config import CompileOptions, Config
from rooftile.driver import compile_graph
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph, Op
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Size
from rooftile.ir.steps import AGAIN
from rooftile.passes.base import PassContext
from rooftile.passes.launches import launches
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.regions.sizes import likely
from rooftile.runtime.build import compile_kernel
from rooftile.target import CPU, H100, Target
from tests.chains import chains, rounding
from tests.strategies import inputs_for

SMALL_TILES = replace(CPU, max_tile_elements=32, op_seconds=0.0)


def compile_small(graph: Graph, target: Target = SMALL_TILES) -> tuple[Compilation, Runnable]:
    """``graph`` compiled for small tiles."""
    return compile_graph(graph, CompileOptions(), Config.from_env(), target, torch.device("cpu"), {})


def sweeps(op: Op) -> Counter[str]:
    """How often a region's kernel runs over each of its axes, where numbers are finite."""
    found: Counter[str] = Counter()
    stack = list(op.regions[1].ops)
    while stack:
        inner = stack.pop()
        if inner.name == "loop" and inner.attrs["phase"] != AGAIN:
            found.update([inner.attrs["axis"]])
        stack.extend(o for region in inner.regions for o in region.ops)
    return found


@given(chains(), st.integers(0, 1000))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_chains_are_right_and_every_sweep_has_its_reason(graph: Graph, seed: int) -> None:
    inputs = inputs_for(graph, seed)
    compilation, program = compile_small(graph)
    assert_kept_but_for_luck(graph, inputs, program(inputs, {}))
    assert_explained(compilation)


def assert_kept(graph: Graph, inputs: Sequence[Tensor], ours: Sequence[Tensor], kind: str = "") -> None:
    """The promise."""
    kept = promised(ours, evaluate(graph, inputs), truth(graph, inputs))
    assert all(a.kept for a in kept), (kind, [str(a) for a in kept])


def assert_kept_but_for_luck(graph: Graph, inputs: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
    """The promise, but that a chain of a few numbers, which eager may get right by chance, may be as far off as it is
    in some order of evaluation."""
    exact = truth(graph, inputs)
    others = [rounding(graph, inputs, n) for n in range(3)]
    for number, accuracy in enumerate(promised(ours, evaluate(graph, inputs), exact)):
        luck = max(error(other[number], exact[number]) for other in others)
        assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed + luck, (accuracy, luck)


def assert_explained(compilation: Compilation) -> None:
    """Every kernel beyond one for each output, and every sweep over a row beyond its first, is in the ledger."""
    ledger = compilation.context.ledger
    regions = [op for op in compilation.graph.ops if op.name == "region"]
    cut = {value for entry in ledger.of("cut") for value in entry.values}
    assert all(v.name in cut for op in regions for v in op.outputs if v not in compilation.graph.outputs)
    again = [entry for entry in ledger.of("recomputed") if entry.rule in ("correct", "roles")]
    assert sum(n - 1 for op in regions for n in sweeps(op).values()) <= len(again)


# The family by name. None of these has a rule of its own.


def softmin(x: Tensor) -> Tensor:
    return F.softmin(x, -1)


def entropy(x: Tensor) -> Tensor:
    return -(x.softmax(-1) * x.log_softmax(-1)).sum(-1)


def entropy_of_probabilities(x: Tensor) -> Tensor:
    p = x.softmax(-1)
    return -(p * p.log()).sum(-1)


def log_sum_exp(x: Tensor) -> Tensor:
    return x.logsumexp(-1)


def base_two_log_sum_exp(x: Tensor) -> Tensor:
    top = x.amax(-1, keepdim=True)
    return torch.exp2(x - top).sum(-1, keepdim=True).log2() + top


def log_mean_exp(x: Tensor) -> Tensor:
    top = x.amax(-1, keepdim=True)
    return (x - top).exp().mean(-1, keepdim=True).log() + top


def textbook_variance(x: Tensor) -> Tensor:
    return (x * x).mean(-1) - x.mean(-1) ** 2


def two_pass_variance(x: Tensor) -> Tensor:
    return ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1)


def third_moment(x: Tensor) -> Tensor:
    return ((x - x.mean(-1, keepdim=True)) ** 3).mean(-1)


def masked_variance(x: Tensor) -> Tensor:
    return torch.where(x > -0.5, (x - x.mean(-1, keepdim=True)) ** 2, 0.0).sum(-1)


def max_scaled_norm(x: Tensor) -> Tensor:
    scale = x.abs().amax(-1, keepdim=True)
    return scale * ((x.abs() / scale) ** 2.5).sum(-1, keepdim=True) ** (1 / 2.5)


def weighted_variance(x: Tensor, v: Tensor) -> Tensor:
    p = x.softmax(-1)
    return (p * (v - (p * v).sum(-1, keepdim=True)) ** 2).sum(-1)


def weights_by_log_sum_exp(x: Tensor, v: Tensor) -> Tensor:
    return ((x - x.exp().sum(-1, keepdim=True).log()).exp() * v).sum(-1)


def distance_below_the_top(x: Tensor) -> Tensor:
    return (x - x.amax(-1, keepdim=True)).amin(-1)


def softmax(x: Tensor) -> Tensor:
    return x.softmax(-1)


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],))


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],))


# How many sweeps over a row each takes, and by which rules.
FAMILY: dict[Callable[..., Tensor], tuple[int, set[str]]] = {
    softmin: (2, {"correct"}),
    entropy: (1, {"commute", "correct"}),
    entropy_of_probabilities: (2, {"correct"}),  # it is NaN where a probability is 0 in the end
    log_sum_exp: (1, {"correct"}),
    base_two_log_sum_exp: (1, {"correct"}),
    log_mean_exp: (1, {"correct"}),
    textbook_variance: (1, set()),
    two_pass_variance: (1, {"correct"}),
    third_moment: (1, {"correct"}),
    masked_variance: (1, {"correct"}),
    max_scaled_norm: (1, {"correct"}),
    weighted_variance: (1, {"commute", "correct"}),
    weights_by_log_sum_exp: (1, {"correct"}),
    distance_below_the_top: (1, {"correct"}),
    softmax: (2, {"correct"}),
    layer_norm: (2, {"correct"}),
    rms_norm: (2, set()),
}


def imported(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Graph:
    """The graph of ``function``."""

    class Model(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return function(*tensors)

    return import_captured(capture_exported(torch.export.export(Model(), inputs, strict=False))).graph


def ordinary_and_extreme_rows(length: int) -> dict[str, Tensor]:
    """Rows of every kind that a sweep may meet: what counts comes late, or not at all, or is infinite."""
    x = torch.randn(4, length, generator=torch.Generator().manual_seed(1))
    infinite = x.clone()
    infinite[0], infinite[1, : length // 2] = -torch.inf, -torch.inf
    infinite[2, 5], infinite[3, -1] = torch.inf, torch.nan
    zeros = x.clone()
    zeros[0], zeros[1, : length // 2], zeros[2, length // 2 :] = 0, 0, 0
    late = x.clone()
    late[:, : length // 2] = -1e4
    steep = x * torch.where(torch.arange(length) < length // 3, 1e4, 1.0)
    return {"x": x, "infinite": infinite, "zeros": zeros, "late": late, "steep": steep, "equal": torch.full_like(x, 3)}


@pytest.mark.parametrize("function", FAMILY, ids=lambda f: f.__name__)
def test_family(function: Callable[..., Tensor]) -> None:
    length = 72
    weights = torch.randn(4, length, generator=torch.Generator().manual_seed(8))
    beside = (weights,) if function in (weighted_variance, weights_by_log_sum_exp) else ()
    graph = imported(function, (torch.zeros(4, length), *beside))
    compilation, program = compile_small(graph)
    (region,) = compilation.graph.ops
    count, rules = FAMILY[function]
    assert max(sweeps(region).values()) == count
    assert {step.rule for d in compilation.context.derivations for step in d.steps} == rules
    assert_explained(compilation)
    for kind, x in ordinary_and_extreme_rows(length).items():
        inputs = (x, *beside)
        assert_kept(graph, inputs, program(list(inputs), {}), kind)


@pytest.mark.parametrize("length", [72, 1000, 4000])
@pytest.mark.parametrize("function", [two_pass_variance, third_moment, layer_norm], ids=lambda f: f.__name__)
def test_a_mean_far_from_zero_costs_no_accuracy(function: Callable[..., Tensor], length: int) -> None:
    x = 1000 + torch.randn(4, length, generator=torch.Generator().manual_seed(5))
    graph = imported(function, (x,))
    compilation, program = compile_small(graph)
    assert sweeps(compilation.graph.ops[0]).total() == FAMILY[function][0]
    assert_kept(graph, (x,), program([x], {}), "far")


def test_what_a_running_sum_loses_is_carried_along() -> None:
    x = torch.full((2, 320), 0.1)
    x[0, :32], x[1, :32] = 1e7, torch.inf
    graph = imported(lambda x: x.sum(-1), (x,))
    (found,) = compile_small(graph)[1]([x], {})
    assert found[1] == torch.inf
    assert found[0] == (32e7 + 288 * x[0, -1].double()).float()  # each part alone would be rounded away


@pytest.mark.parametrize("function", [layer_norm, softmax, rms_norm], ids=lambda f: f.__name__)
def test_a_row_that_fits_is_read_once(function: Callable[..., Tensor]) -> None:
    graph = imported(function, (torch.zeros(4, 12),))
    compilation, _ = compile_small(graph)
    (region,) = compilation.graph.ops
    assert not sweeps(region)
    assert not compilation.context.ledger.of("recomputed")


def rows_with_ties(dtype: torch.dtype) -> Tensor:
    """Rows whose extremes stand in several tiles."""
    x = torch.randint(-3, 3, (6, 72), generator=torch.Generator().manual_seed(2)).to(dtype)
    x[0], x[1, 40:], x[2, 3], x[2, 60] = 1, 7, 9, 9
    if dtype.is_floating_point:
        x[3, 20], x[3, 50], x[3, 10], x[4], x[5, :30] = torch.nan, torch.nan, torch.inf, -torch.inf, -torch.inf
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
@pytest.mark.parametrize("fn", [torch.argmax, torch.argmin], ids=lambda f: f.__name__)
def test_positions_take_one_sweep(fn: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x = rows_with_ties(dtype)
    graph = imported(lambda x: fn(x, -1), (x,))
    compilation, program = compile_small(graph)
    assert sweeps(compilation.graph.ops[0]).total() == 1
    assert [step.rule for d in compilation.context.derivations for step in d.steps] == ["merge"]
    (found,) = program([x], {})
    assert torch.equal(found, fn(x, -1))


def test_positions_of_what_follows_a_mean_take_another_sweep() -> None:
    x = rows_with_ties(torch.float32)
    graph = imported(lambda x: (x - x.mean(-1, keepdim=True)).argmax(-1), (x,))
    compilation, program = compile_small(graph)
    assert sweeps(compilation.graph.ops[0]).total() == 2
    (found,) = program([x], {})
    assert torch.equal(found, (x - x.mean(-1, keepdim=True)).argmax(-1))


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: (row := x * 2, row.sum(-1)), 1),
        (lambda x: (row := torch.maximum(x, x.sum(-1, keepdim=True)), row.sum(-1)), 2),
        (lambda x: (row := x * 2, row - row.mean(-1, keepdim=True)), 2),
    ],
    ids=["reduced", "computed from a sum and reduced", "reduced for a row that is stored, too"],
)
def test_a_row_is_stored_by_the_sweep_that_reduces_it(function: Callable[..., Tensor], count: int) -> None:
    x = torch.randn(3, 72, generator=torch.Generator().manual_seed(4))
    graph = imported(function, (x,))
    compilation, program = compile_small(graph)
    assert sum(sweeps(op).total() for op in compilation.graph.ops) == count
    assert_explained(compilation)
    assert_kept(graph, (x,), program([x], {}))


def test_a_product_of_a_row_with_itself_beside_another() -> None:
    generator = torch.Generator().manual_seed(9)
    inputs = tuple(torch.randn(3, 40, generator=generator) for _ in range(2))
    graph = imported(lambda x, y: torch.einsum("rn,rn->r", x, y) / torch.einsum("rn,rn->r", x, x), inputs)
    _, program = compile_small(graph)
    assert_kept(graph, inputs, program(list(inputs), {}))


# What is computed from an extreme may be no number as long as that is one of nothing.


def top(x: Tensor) -> Tensor:
    return x.exp().amax(-1, keepdim=True)


def bottom(x: Tensor) -> Tensor:
    return x.exp().amin(-1, keepdim=True)


OF_EXTREMES: dict[str, Callable[[Tensor], Tensor]] = {
    "shifted by a logarithm": lambda x: (x - top(x).log()).sum(-1),
    "shifted by an inverse": lambda x: (x - 1 / top(x)).sum(-1),
    "shifted by an inverse root": lambda x: (x - top(x).rsqrt()).sum(-1),
    "shifted by a ratio": lambda x: (x - top(x) / bottom(x)).sum(-1),
    "a deviation from a logarithm": lambda x: ((x - top(x).log()) ** 2).sum(-1),
    "below a logarithm": lambda x: (x - top(x).log()).exp().sum(-1),
    "below a root": lambda x: (x - top(x).sqrt()).exp().sum(-1),
    "below the range, which may be 0": lambda x: (x - (top(x) - bottom(x)).log()).exp().sum(-1),
    "above the lowest": lambda x: (x - x.amin(-1, keepdim=True)).exp().sum(-1),
    "the highest rounded one": lambda x: (x - x.amax(-1, keepdim=True)).exp().bfloat16().float().amax(-1),
}


@pytest.mark.parametrize("kind", ["x", "zeros", "equal"])
@pytest.mark.parametrize("name", OF_EXTREMES)
def test_functions_of_extremes(name: str, kind: str) -> None:
    x = ordinary_and_extreme_rows(72)[kind]
    graph = imported(OF_EXTREMES[name], (x,))
    compilation, program = compile_small(graph)
    assert max(sweeps(compilation.graph.ops[0]).values()) == 1
    assert_kept(graph, (x,), program([x], {}), kind)


@pytest.mark.parametrize("scale", [-1.3, 0.0, 2.0])
def test_a_scale_of_any_sign_in_an_exponent(scale: float) -> None:
    x, by = ordinary_and_extreme_rows(72)["x"], torch.tensor([scale])
    graph = imported(lambda x, by: ((x - x.amax(-1, keepdim=True)) * by).exp().sum(-1), (x, by))
    compilation, program = compile_small(graph)
    assert sweeps(compilation.graph.ops[0]).total() == 1
    assert_kept(graph, (x, by), program([x, by], {}))


# Two rows, whose sums are computed from one another in turn: of any two sweeps one comes first.


def total(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


CROSSED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "two rows": lambda x, y: total(y - total(x - total(y))),
    "the inner row twice": lambda x, y: total(y - total(x - total(x - total(y))) / 64) / 64,
    "shifted by both": lambda x, y: total(y - total(x - total(y) - total(x))),
    "shifted by both, then a mean": lambda x, y: total(y - total(x - total(y) - total(x)) / 64) / 64,
    "shifted by a mean too": lambda x, y: total(y - total(x - total(y) - x.mean(-1, keepdim=True)) / 33),
    "uncorrected": lambda x, y: total((x - total(y)).exp()) + total((y - total(x)).exp()),
    "a deviation in between": lambda x, y: total((y - total((x - y.amax(-1, keepdim=True)).exp())) ** 2),
}


@pytest.mark.parametrize("length", [33, 64])
@pytest.mark.parametrize("name", CROSSED)
def test_what_needs_another_row_that_needs_it_takes_another_sweep(name: str, length: int) -> None:
    generator = torch.Generator().manual_seed(7)
    inputs = tuple(torch.randn(2, length, generator=generator) for _ in range(2))
    graph = imported(CROSSED[name], inputs)
    compilation, program = compile_small(graph)
    (region,) = compilation.graph.ops
    assert sorted(sweeps(region).values()) == [1, 2]
    (again,) = compilation.context.ledger.of("recomputed")
    assert again.rule == "correct" and "it needs one over" in again.reason
    assert_kept_but_for_luck(graph, inputs, program(list(inputs), {}))


def test_both_rows_are_swept_again_where_each_needs_the_other_twice() -> None:
    generator = torch.Generator().manual_seed(7)
    inputs = tuple(torch.randn(2, 33, generator=generator) for _ in range(2))
    graph = imported(lambda x, y: total(x - total(y - total(x - total(y)))), inputs)
    compilation, program = compile_small(graph)
    assert list(sweeps(compilation.graph.ops[0]).values()) == [2, 2]
    assert_explained(compilation)
    assert_kept_but_for_luck(graph, inputs, program(list(inputs), {}))


@pytest.mark.parametrize("length", [33, 64])
def test_a_row_shifted_by_another_and_by_itself_takes_one_sweep(length: int) -> None:
    generator = torch.Generator().manual_seed(7)
    inputs = tuple(torch.randn(2, length, generator=generator) for _ in range(2))
    graph = imported(lambda x, y: total(x - total(y) - x.mean(-1, keepdim=True)), inputs)
    compilation, program = compile_small(graph)
    assert set(sweeps(compilation.graph.ops[0]).values()) == {1}
    assert_kept_but_for_luck(graph, inputs, program(list(inputs), {}))


# Cross-entropy: the target's logit is a sum under a condition, in the same sweep as the others.


def token_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ head.T, targets, reduction="none")


def mean_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ head.T, targets)


def sum_with_ignored(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ head.T, targets, ignore_index=7, reduction="sum")


def next_token_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    logits = (hidden.view(2, -1, hidden.shape[-1]) @ head.T)[:, :-1]
    return F.cross_entropy(logits.reshape(-1, head.shape[0]), targets.view(2, -1)[:, 1:].reshape(-1))


def written_out(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    logits = hidden @ head.T
    return (logits.logsumexp(-1) - logits.gather(-1, targets[:, None])[:, 0]).mean()


CROSS_ENTROPIES = (token_losses, mean_loss, sum_with_ignored, next_token_loss, written_out)


@pytest.mark.parametrize("width", [40, 300])  # the summed axis held whole, and swept inside the sweep over the columns
@pytest.mark.parametrize("function", CROSS_ENTROPIES, ids=lambda f: f.__name__)
def test_cross_entropy_never_stores_the_logits(function: Callable[..., Tensor], width: int) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, head = (torch.randn(n, width, generator=generator) for n in (12, 700))
    targets = torch.randint(0, 700, (12,), generator=generator)
    targets[2] = targets[7] = 7
    graph = imported(function, (hidden, head, targets))
    compilation, program = compile_small(graph, replace(CPU, op_seconds=0.0))
    assert all(likely(v.type.numel) < 6 * 700 for op in compilation.graph.ops for v in op.outputs)
    assert "split" in {step.rule for d in compilation.context.derivations for step in d.steps}
    assert_kept(graph, (hidden, head, targets), program([hidden, head, targets], {}))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_from_logits(reduction: str) -> None:
    logits = torch.randn(6, 72, generator=torch.Generator().manual_seed(4)) * 10
    targets = torch.tensor([0, 71, -100, 5, 33, -100])
    graph = imported(lambda x, t: F.cross_entropy(x, t, reduction=reduction), (logits, targets))
    compilation, program = compile_small(graph)
    assert sum(sum(sweeps(op).values()) for op in compilation.graph.ops if logits.shape in shapes_read(op)) == 1
    assert_kept(graph, (logits, targets), program([logits, targets], {}))


def shapes_read(op: Op) -> set[tuple[Size, ...]]:
    return {v.shape for v in op.inputs}


# What an H100 gets, compiled without one.


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def on_meta(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


TARGETS = torch.empty(4096, dtype=torch.int64, device="meta")
LARGE: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], int]] = {
    "softmax": (softmax, (on_meta(8192, 8192),), 0),
    "long softmax": (softmax, (on_meta(4096, 128256),), 2),
    "layer norm that fits": (layer_norm, (on_meta(512, 16384),), 0),
    "layer norm": (layer_norm, (on_meta(512, 100_000),), 2),
    "rms norm that fits": (rms_norm, (on_meta(512, 16384),), 0),
    "rms norm": (rms_norm, (on_meta(512, 65536),), 2),
    "cross-entropy": (cross_entropy, (on_meta(4096, 128256), TARGETS), 1),
    "cross-entropy from hidden states": (
        token_losses,
        (on_meta(16384, 4096), on_meta(128256, 4096), torch.empty(16384, dtype=torch.int64, device="meta")),
        1,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_rows_on_an_h100(name: str) -> None:
    function, inputs, count = LARGE[name]
    graph = Manager(verify=True).run(imported(function, inputs), PIPELINE, PassContext(H100))[-1].graph
    regions = [op for op in graph.ops if any(likely(v.type.numel) > 2**20 for v in op.inputs)]
    assert len(regions) == 1
    assert max((n for axis, n in sweeps(regions[0]).items() if axis != "k"), default=0) == count
    for kernel in emit_all(launches(graph), H100).values():
        resources = compile_kernel(kernel, H100.arch).resources
        assert resources.spill_bytes == 0 and resources.shared_bytes <= H100.shared_memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("length", [16384, 65536, 200_000])
@pytest.mark.parametrize("function", [layer_norm, rms_norm], ids=lambda f: f.__name__)
def test_norms_of_long_rows(function: Callable[..., Tensor], length: int, dtype: torch.dtype) -> None:
    """One read where the row fits, else two, of which the ledger says why."""
    context = PassContext(H100)
    graph = imported(function, (torch.empty(512, length, dtype=dtype, device="meta"),))
    lowered = Manager().run(graph, PIPELINE, context)[-1].graph
    (region,) = lowered.ops
    count = 0 if length <= 16384 else 2
    assert max(sweeps(region).values(), default=0) == count
    assert [entry.rule for entry in context.ledger.of("recomputed")] == ["roles"] * (count == 2)
    assert not count or f"no tile holds a row of {length}" in context.ledger.of("recomputed")[0].reason


@pytest.mark.parametrize("function", [layer_norm, rms_norm], ids=lambda f: f.__name__)
def test_norms_of_long_rows_keep_the_promise(function: Callable[..., Tensor]) -> None:
    x = 30 + torch.randn(2, 200_000, generator=torch.Generator().manual_seed(6))
    graph = imported(function, (x,))
    small = replace(CPU, max_tile_elements=4096, op_seconds=0.0)
    compilation, program = compile_small(graph, small)
    assert sweeps(compilation.graph.ops[0]).total() == 2
    assert_kept(graph, (x,), program([x], {}))


def test_the_report_says_how_a_row_is_swept() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1)

    report = rooftile.explain(Model(), torch.zeros(2, 600_000))
    (again,) = [row for row in report.ledger if row.decision == "recomputed"]
    assert again.rule == "roles" and "600000" in again.reason
    assert [step.rule for row in report.derivations for step in row.steps] == ["correct"]
