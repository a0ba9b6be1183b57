"""Every spelling of attention becomes kernels that store nothing of the size of its scores, and gives eager's answer.

What can't be swept is cut, and the ledger says at which value and for want of which rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.accuracy import promised, truth
from rooftile.checking import check
from rooftile.config import CompileOptions
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.passes.base import Pass, PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.summarize import Summarize
from rooftile.report.data import Report
from rooftile.report.explaining import explain_with
from rooftile.target import H100
from tests.attention import VARIANTS
from tests.attention.variant import LARGE, LONG, Variant

NAMES = list(VARIANTS)
SWEPT = [n for n in NAMES if VARIANTS[n].cut is None]
CUT = [n for n in NAMES if VARIANTS[n].cut is not None]
# Each variant in one dtype, in turn: every one in all three would take minutes.
IN_TURN = (torch.bfloat16, torch.float32, torch.bfloat16, torch.float16)
IN_DTYPES = [(name, IN_TURN[number % len(IN_TURN)]) for number, name in enumerate(NAMES)]


@cache
def report(name: str) -> Report:
    """What becomes of a variant for an H100 at ``LONG`` queries and keys."""
    variant = VARIANTS[name]
    torch._dynamo.reset()
    return explain_with(variant.forward, variant.large(), {}, CompileOptions(target="h100", dynamic=False))


def stored_scores(name: str) -> list[str]:
    """The buffers between kernels that are as large as the scores of one head."""
    rows = report(name).to_dict()["buffers"]
    return [b["name"] for b in rows if b["role"] == "intermediate" and math.prod(b["shape"]) >= LONG * LONG]


def kernels(name: str) -> int:
    """How many kernels there are; one in parts and the one that merges them are one."""
    return sum(not row.name.endswith("_parts") for row in report(name).kernels)


@pytest.mark.parametrize("name", SWEPT)
def test_nothing_of_the_size_of_the_scores_is_stored(name: str) -> None:
    assert stored_scores(name) == [], str(report(name))
    assert kernels(name) <= VARIANTS[name].kernels, str(report(name))


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_is_named(name: str) -> None:
    variant = VARIANTS[name]
    named = [(v, row.rule) for row in report(name).ledger if row.decision in ("cut", "extern") for v in row.values]
    assert variant.cut in named, str(report(name))
    assert len(stored_scores(name)) <= variant.stored
    assert kernels(name) <= variant.kernels


@pytest.mark.parametrize("name", ["linear_scores", "linear_normalised", "linear_einsum"])
def test_products_without_a_softmax_are_summed_in_the_cheaper_order(name: str) -> None:
    heads, size = LARGE["h"], LARGE["d"]
    flops = report(name).totals.flops
    assert isinstance(flops, int) and flops < heads * LONG * LONG * size // 8


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.function = variant.forward

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(*inputs)


def imported(variant: Variant, inputs: Sequence[Tensor]) -> tuple[Graph, list[Tensor]]:
    """The variant as the graph that passes start from, and what that takes."""
    with torch.no_grad():
        captured = capture_exported(torch.export.export(Called(variant), tuple(inputs), strict=False))
    found = import_captured(captured)
    given = iter(inputs)
    return found.graph, [*(next(given) if i.value is None else i.value for i in captured.inputs), *found.constants]


def assert_kept(variant: Variant, inputs: Sequence[Tensor], passes: Sequence[Pass] = PIPELINE) -> Graph:
    """The promise, for the kernels for an H100 as the reference evaluator runs them: several steps of every sweep."""
    graph, given = imported(variant, inputs)
    lowered = Manager().run(graph, passes, PassContext(H100))[-1].graph
    ours, eager = evaluate(lowered, given, lowered=True), evaluate(graph, given)
    kept = promised(ours, eager, truth(graph, given))
    assert all(a.kept for a in kept), [str(a) for a in kept]
    return lowered


@pytest.mark.parametrize(("name", "dtype"), IN_DTYPES, ids=str)
def test_same_answer(name: str, dtype: torch.dtype) -> None:
    assert_kept(VARIANTS[name], VARIANTS[name].small(dtype))


# One query and many, fewer than keys and more (then some have nothing to attend to), around the edges of tiles.
QUERIES_AND_KEYS = ((1, 1), (1, 300), (16, 257), (2, 64), (65, 33), (300, 7))
OF_ANY_LENGTH = (
    "matmul",
    "gqa_repeat_interleave",
    "causal_masked_fill_inf",
    "causal_where_min",
    "lengths",
    "no_maximum",
)


@pytest.mark.parametrize(("queries", "keys"), QUERIES_AND_KEYS)
@pytest.mark.parametrize("name", OF_ANY_LENGTH)
def test_any_numbers_of_queries_and_keys(name: str, queries: int, keys: int) -> None:
    variant = VARIANTS[name]
    sized = replace(variant, sizes=variant.sizes | {"i": queries, "j": keys})
    for dtype in dict.fromkeys(IN_TURN):
        assert_kept(sized, sized.small(dtype))


TOLD = ("documents", "given_masked_fill_inf", "given_where_min", "given_added_min", "given_2d", "given_per_head")
TOLD += ("padding_broadcast", "additive_2d_-inf", "additive_4d_-1e4", "additive_per_head", "additive_row")
TOLD += ("padding_of_ones", "sdpa_bool", "sdpa_float")


@pytest.mark.parametrize("name", TOLD)
def test_same_answer_where_the_mask_is_summarised(name: str) -> None:
    """As it would be for long sequences: rows with nothing to attend to are among these."""
    variant = replace(VARIANTS[name], sizes={"i": 75, "j": 75})
    always = [Summarize(share=math.inf, added=True) if each.name == "summarize" else each for each in PIPELINE]
    lowered = assert_kept(variant, variant.small(torch.bfloat16, seed=1), always)
    assert any("visits" in op.attrs for op in lowered.ops)


def large_logits(inputs: Sequence[Tensor]) -> None:
    inputs[0][0, 0] *= 1e4


def equal_logits(inputs: Sequence[Tensor]) -> None:
    inputs[0][:] = 0.0


def one_infinity(inputs: Sequence[Tensor]) -> None:
    inputs[1][0, 0, 2, 1] = math.inf


def one_nan(inputs: Sequence[Tensor]) -> None:
    inputs[0][0, 1, 3, 0] = math.nan


EXTREMES = (large_logits, equal_logits, one_infinity, one_nan)
UNUSUAL = ("matmul", "no_maximum", "causal_masked_fill_inf", "given_added_min", "sink_column", "one_more_stable")
UNUSUAL += ("soft_cap", "softmax_over_queries", "zeroed_after")


IN_FLOATS = [(name, torch.float32) for name in UNUSUAL]
IN_FLOATS += [(name, dtype) for name in ("matmul", "given_added_min") for dtype in (torch.bfloat16, torch.float16)]


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize(("name", "dtype"), IN_FLOATS, ids=str)
def test_extreme_inputs(name: str, dtype: torch.dtype, extreme: object) -> None:
    inputs = VARIANTS[name].small(dtype)
    assert callable(extreme)
    extreme(inputs)
    assert_kept(VARIANTS[name], inputs)


ON_CPU = ("matmul", "gqa_expand_reshape", "wide_values", "documents", "t5", "sink_column", "zeroed_after")
ON_CPU += ("softmax_over_queries", "linear_normalised", "differential", "heads_mixed_after", "top_k")


@pytest.mark.parametrize("name", ON_CPU)
def test_compiled_on_the_cpu(name: str) -> None:
    torch._dynamo.reset()
    variant = VARIANTS[name]
    kept = check(rooftile.compile(variant.forward, dynamic=False), variant.forward, variant.small(torch.bfloat16))
    assert all(a.kept for a in kept), [str(a) for a in kept]
