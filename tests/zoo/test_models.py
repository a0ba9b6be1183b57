"""Architectures of transformers, small: one graph without breaks, eager's tokens, caches written in place.

``python -m benchmarks.models`` runs all cases of all of them, with two layers each; here each has the case that asks
most of it, and as few layers as there are kinds of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rooftile
from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.cases import Decoding, forward, inputs, padded
from rooftile.checking import check
from rooftile.compilation import Compilation
from rooftile.driver import collecting
from rooftile.report.breaks import breaks_seen
from rooftile.runtime.plan import Call

ROUTING = {"aten.topk.default", "aten.sort.default"}
CHUNKS = {"aten.linalg_solve_triangular.default"}  # of a gated delta rule

ONE_LAYER = {"num_hidden_layers": 1}
DECODED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": (ONE_LAYER, set()),
    "gpt2": ({"n_layer": 1}, set()),
    "gpt_oss": ({}, ROUTING),
    "deepseek_v3": ({}, ROUTING),
    "qwen3_next": ({}, ROUTING | CHUNKS),
    "t5": ({"num_layers": 1, "num_decoder_layers": 1}, set()),
}
FORWARD: dict[str, tuple[dict[str, Any], set[str]]] = {
    "qwen3": (ONE_LAYER, set()),
    "gemma2": ({}, set()),  # a layer with a window, one without
    "mixtral": (ONE_LAYER, ROUTING),
    "bloom": ({"n_layer": 1}, set()),
    "bert": (ONE_LAYER, set()),
    "vit": (ONE_LAYER, set()),
    "qwen3_next": ({**ONE_LAYER, "layer_types": ["linear_attention"]}, ROUTING | CHUNKS),
}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def externs(compilation: Compilation) -> set[str]:
    return {str(op.attrs["target"]) for op in compilation.graph.ops if op.name == "extern"}


def test_every_architecture_is_here() -> None:
    assert {*DECODED, *FORWARD} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", DECODED)
def test_greedy_decoding_with_a_static_cache(name: str) -> None:
    changes, allowed = DECODED[name]
    of = ARCHITECTURES[name]
    model = of.built("small", **changes)
    ids = inputs(of, model, 2, 6)["input_ids"]
    with torch.no_grad(), collecting() as compilations, breaks_seen() as breaks:
        wanted = Decoding(of, model, ids, 24).run(model, 5)
        assert torch.equal(Decoding(of, model, ids, 24).run(rooftile.compile(model), 5), wanted)
    assert not breaks
    assert 2 <= len(compilations) <= 3  # the prefill, a step; with windows also a step once one is full
    for compilation in compilations:
        assert externs(compilation) <= allowed
        copies_no_cache(compilation)


def copies_no_cache(compilation: Compilation) -> None:
    """Whatever ``index_copy`` writes to is written in place, and so is what counts the tokens. (A recurrent state is
    not: each of its elements is computed from others.)"""
    plan = compilation.plan
    assert plan is not None
    assert all(s.in_place for s in plan.steps if isinstance(s, Call) and s.name == "aten.index_copy.default")
    apart = {e.values[0] for e in compilation.context.ledger.of("copied") if e.rule == "update"}
    assert not [v for v in compilation.graph.outputs if v.name in apart and (not v.shape or "index_copy" in v.name)]


@pytest.mark.parametrize("name", FORWARD)
def test_a_forward_pass_keeps_the_promise(name: str) -> None:
    changes, allowed = FORWARD[name]
    of = ARCHITECTURES[name]
    model = of.built("small", **changes)
    given = inputs(of, model, 2, 12)
    given = given if of.kind == "image" else padded(of, given)
    with collecting() as compilations, breaks_seen() as breaks:
        verdicts = check(forward(of, rooftile.compile(model)), forward(of, model), (), given)
    assert verdicts and all(v.kept for v in verdicts), [str(v) for v in verdicts]
    assert not breaks
    (compilation,) = compilations
    assert externs(compilation) <= allowed


def test_a_step_attends_over_the_filled_part_of_the_cache() -> None:
    """For an H100: the sweep over 2048 positions ends where the counter of tokens says."""
    of = ARCHITECTURES["llama"]
    model = of.built("small", torch.bfloat16, num_hidden_layers=1, max_position_embeddings=4096)
    ids = inputs(of, model, 1, 6)["input_ids"]
    with torch.no_grad(), collecting() as compilations:
        Decoding(of, model, ids, 2048).run(rooftile.compile(model, options={"target": "h100"}), 2)
    step = compilations[-1]
    skips = [s for d in step.context.derivations for s in d.steps if s.rule == "skip"]
    assert len(skips) == 1 and "value0" in skips[0].after, skips  # a bound that is read from memory
    assert not [op for op in step.graph.ops if op.name == "region" and "concat" in op.attrs["name"]]
