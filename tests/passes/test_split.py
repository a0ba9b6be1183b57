"""The pass ``split``: random chains in parts equal whole ones, and attention over parts without a key is eager's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rooftile.accuracy import error, promised, truth
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.ir.schedule import Schedule
from rooftile.ir.verifier import verify
from rooftile.passes.base import Pass, PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE
from rooftile.passes.split import Split
from rooftile.reproduce import random_inputs
from rooftile.target import CPU
from tests.chains import chains, rounding
from tests.models import llama_layer
from tests.regions import compiled, meta, regions
from tests.strategies import inputs_for
from tests.versions import needs_torch

INF = float("inf")


def one_region(body: Graph) -> Graph:
    """A graph that computes the last output of ``body`` as one kernel."""
    body = replace(body, outputs=body.outputs[-1:])
    builder = GraphBuilder()
    inputs = [builder.input(v.name, v.type) for v in body.inputs]
    return builder.finish(builder.region(body, inputs, {"name": "all"}))


@given(chains(), st.sampled_from((2, 3, 4, 8)), st.sampled_from((1, 8)), st.integers(0, 1000))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_parts_of_random_chains_merge_to_the_whole(graph: Graph, parts: int, even: int, seed: int) -> None:
    before = one_region(graph)
    context = PassContext(CPU)
    after = Split(parts, even).run(before, context)
    assume(after is not before)
    verify(after)
    inputs = inputs_for(graph, seed)
    (whole,), (merged,), (exact,) = evaluate(before, inputs), evaluate(after, inputs), truth(before, inputs)
    luck = max(error(rounding(graph, inputs, n)[-1], exact) for n in range(3))
    (accuracy,) = promised([merged], [whole], [exact])
    assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed + luck, (accuracy, luck)
    assert [e.rule for e in context.ledger.of("split")] == ["merge"]


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Of grouped heads: each key head serves several query heads."""
    return q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).transpose(-1, -2) / 4


def mixed(s: Tensor, v: Tensor) -> Tensor:
    return s.softmax(-1) @ v.repeat_interleave(s.shape[1] // v.shape[1], 1)


def last_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The queries are the last positions, and see what is not after them."""
    i = torch.arange(q.shape[-2])[:, None] + k.shape[-2] - q.shape[-2]
    return mixed(scores(q, k).masked_fill(torch.arange(k.shape[-2]) > i, -INF), v)


def filled(fill: float) -> Callable[..., Tensor]:
    """A cache of which only the first ``length`` positions are filled, in each row of the batch another number."""

    def model(q: Tensor, k: Tensor, v: Tensor, length: Tensor) -> Tensor:
        hidden = torch.arange(k.shape[-2]) >= length[:, None, None, None]
        return mixed(scores(q, k).masked_fill(hidden, fill), v)

    return model


def biased(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """A bias from a table, at the distance between query and key."""
    distance = (torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])).clamp(-7, 0) + 7
    return mixed(scores(q, k) + table[distance], v)


def summed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Without a maximum; what the weights add up to is added."""
    e = torch.exp(scores(q, k))
    total = e.sum(-1, keepdim=True)
    return e @ v.repeat_interleave(q.shape[1] // v.shape[1], 1) / total + total


def largest(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.logsumexp(scores(q, k), -1) + scores(q, k).amax(-1) + v.sum()


def split_compilation(model: Callable[..., Tensor], inputs: Sequence[Tensor], parts: int) -> tuple[Graph, Graph]:
    """The model's graph as captured, and with its sweep in ``parts``, lowered for the CPU."""
    with torch.no_grad():
        graph = import_captured(capture_exported(torch.export.export(Module(model), tuple(inputs)))).graph
    return graph, Manager(verify=True).run(graph, in_parts(parts), PassContext(CPU))[-1].graph


def in_parts(parts: int) -> list[Pass]:
    """The pipeline with sweeps cut into ``parts``, where they don't divide an axis into multiples of 4 positions."""
    return [Split(parts, even=4) if each.name == "split" else each for each in PIPELINE]


class Module(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


LENGTHS = torch.tensor([3, 0, 32])  # part of the first part, nothing (a row of NaN with a fill of -inf), all
MODELS: dict[str, tuple[Callable[..., Tensor], Tensor | None]] = {
    "plain": (lambda q, k, v: mixed(scores(q, k), v), None),
    "last-queries": (last_queries, None),
    "filled-inf": (filled(-INF), LENGTHS),
    "filled-lowest": (filled(torch.finfo(torch.float32).min), LENGTHS),
    "filled-finite": (filled(-1e4), LENGTHS),
    "biased": (biased, torch.randn(8)),
    "no-maximum": (summed, None),
}


@pytest.mark.parametrize("parts", [2, 3, 8])
@pytest.mark.parametrize("name", MODELS)
def test_attention_in_parts_is_eager(name: str, parts: int) -> None:
    model, more = MODELS[name]
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 2, 24), torch.randn(3, 2, 32, 24), torch.randn(3, 2, 32, 24)
    inputs = (q, k, v) if more is None else (q, k, v, more)
    graph, after = split_compilation(model, inputs, parts)
    read_beyond_the_end = name == "biased" and 32 % parts != 0  # the table has nothing there
    assert [op.attrs["name"].endswith("_parts") for op in after.ops].count(True) == (not read_beyond_the_end)
    (accuracy,) = promised(evaluate(after, inputs, lowered=True), evaluate(graph, inputs), truth(graph, inputs))
    assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed, accuracy


def test_parts_of_narrow_results_are_stored_as_they_are_accumulated() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, 2, n, 24, dtype=torch.float16) for n in (2, 64, 64)]
    _, after = split_compilation(lambda q, k, v: (q @ k.transpose(-1, -2)) @ v, inputs, 8)
    assert [op.outputs[0].dtype.name for op in after.ops] == ["f32", "f16"]


@needs_torch("2.13", "export does not see which of 24 * n and 48 * n is the lesser")
def test_a_length_known_at_run_time_is_cut_too() -> None:
    q, k, v = torch.randn(1, 4, 1, 24), torch.randn(1, 2, 37, 24), torch.randn(1, 2, 37, 24)
    length = torch.export.Dim("length", min=2, max=2**16)
    model = Module(lambda q, k, v: mixed(scores(q, k), v))
    with torch.no_grad():
        exported = torch.export.export(model, (q, k, v), dynamic_shapes={"inputs": ({}, {2: length}, {2: length})})
        graph = import_captured(capture_exported(exported)).graph
    after = Manager(verify=True).run(graph, in_parts(4), PassContext(CPU))[-1].graph
    (symbol,) = graph.size_symbols()
    assert len(after.ops) == 2
    for n in (37, 5, 16):
        inputs, sizes = (q, k[:, :, :n], v[:, :, :n]), {symbol.name: n}
        expected = evaluate(graph, inputs, sizes)
        exact = truth(graph, inputs, sizes)
        (accuracy,) = promised(evaluate(after, inputs, sizes, lowered=True), expected, exact)
        assert accuracy.ours <= accuracy.allowed, (n, accuracy)


DECODED = {
    "one-long": ((1, 32, 1, 128), (1, 8, 32768, 128), 128),  # 8 groups of heads, 16 parts: about one for each processor
    "one-odd": ((1, 32, 1, 128), (1, 8, 32767, 128), 128),
    "several-queries": ((1, 32, 4, 128), (1, 8, 32768, 128), 128),
    "batch": ((32, 32, 1, 128), (32, 8, 8192, 128), 256),  # enough programs as it is
    "prefill": ((1, 32, 4096, 128), (1, 8, 4096, 128), 32 * 16),  # each with two tiles of 128 rows
}


@pytest.mark.parametrize("name", DECODED)
def test_heads_of_a_group_share_keys_and_parts_fill_an_h100(name: str) -> None:
    queries, keys, programs = DECODED[name]
    ops = regions(lambda q, k, v: mixed(scores(q, k), v), (meta(*queries), meta(*keys), meta(*keys)), "h100")
    assert len(ops) == 1 + (programs == 128)
    schedule = Schedule.from_attrs(ops[0].attrs)
    grid = [-(-int(str(a.extent)) // a.tile) for a in schedule.axes if a.role == "grid"]
    assert prod(grid) == programs


F = torch.nn.functional


def activated(x: Tensor, w: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return residual + F.gelu(F.linear(x, w, bias))


def gated(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(F.linear(x, gate)) * F.linear(x, up)


def in_heads(x: Tensor, w: Tensor) -> Tensor:
    return F.linear(x, w).unflatten(-1, (4, 6)).transpose(0, 1)


PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "plain": (lambda x, w: x @ w, ((5, 48), (48, 24))),
    "vector": (lambda x, w: F.linear(x, w), ((1, 48), (24, 48))),
    "batched": (lambda x, w: x @ w, ((2, 5, 48), (2, 48, 24))),
    "activated": (activated, ((5, 48), (24, 48), (24,), (5, 24))),
    "gated": (gated, ((5, 48), (24, 48), (24, 48))),
    "in-heads": (in_heads, ((5, 48), (24, 48))),
    "computed": (lambda x, w: torch.sigmoid(x) @ w, ((5, 48), (48, 24))),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [2, 5])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_in_parts_are_merged_with_what_follows(name: str, parts: int, dtype: torch.dtype) -> None:
    model, shapes = PRODUCTS[name]
    torch.manual_seed(0)
    inputs = [torch.randn(shape).to(dtype) for shape in shapes]
    graph, after = split_compilation(model, inputs, parts)
    assert [str(op.attrs["name"]).endswith("_parts") for op in after.ops] == [True, False]
    assert all(v.dtype.name == "f32" for v in after.ops[0].outputs)  # as they are accumulated
    (accuracy,) = promised(evaluate(after, inputs, lowered=True), evaluate(graph, inputs), truth(graph, inputs))
    assert accuracy.ours <= accuracy.allowed, accuracy


@pytest.mark.parametrize(
    ("m", "n", "k", "parts"),
    [
        (16, 4096, 14336, 1),  # weights for nearly every multiprocessor as it is
        (128, 4096, 14336, 2),
        (64, 64, 65536, 32),
        (512, 4096, 4096, 1),
        (4096, 4096, 4096, 1),
        (128, 256, 256, 1),  # over before a second kernel has started
    ],
)
def test_a_long_sum_for_few_results_fills_an_h100(m: int, n: int, k: int, parts: int) -> None:
    ops = regions(activated, (meta(m, k), meta(n, k), meta(n), meta(m, n)), "h100")
    assert len(ops) == 1 + (parts > 1)
    if parts > 1:
        assert [v.shape for v in ops[0].outputs] == [(parts, m, n)]


def routed(x: Tensor, norm: Tensor, router: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """What a router makes of normed tokens, one of each sequence, and some of these."""
    rows = x.float()
    normed = norm * (rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)
    return F.linear(normed.flatten(0, 1), router), normed.flatten(0, 1)[order]


def test_a_norm_s_statistics_are_a_part_s_beside_its_product() -> None:
    """The sum of squares, of one dimension less than the product, is read by others too."""
    inputs = (meta(16, 1, 2048), meta(2048), meta(64, 2048), meta(128, dtype=torch.int64))
    compilation = compiled(Module(routed), inputs, "h100")
    first = next(op for op in compilation.graph.ops if str(op.attrs["name"]).endswith("_parts"))
    assert [v.shape for v in first.outputs] == [(8, 16, 1), (8, 16, 64)]
    imported = compilation.stages[0].graph
    tensors, sizes = random_inputs(imported, torch.device("cpu"))
    ours = evaluate(compilation.graph, tensors, sizes, lowered=True)
    for accuracy in promised(ours, evaluate(imported, tensors, sizes), truth(imported, tensors, sizes)):
        assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed, accuracy


def test_a_small_layer_on_a_large_gpu_is_its_answer_in_parts() -> None:
    """Its products are small beside 132 processors, and one of them gives a norm's statistics too."""
    layer, inputs = llama_layer(batch=1, length=128, width=512, heads=4, inner=512, dtype=torch.bfloat16)
    compilation = compiled(layer, inputs, "h100")
    assert compilation.context.ledger.of("split")
    imported = compilation.stages[0].graph
    tensors, sizes = random_inputs(imported, torch.device("cpu"))
    ours = evaluate(compilation.graph, tensors, sizes, lowered=True)
    (accuracy,) = promised(ours, evaluate(imported, tensors, sizes), truth(imported, tensors, sizes))
    assert accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed, accuracy
