"""Multi-head latent attention: whole sequences keep their order of products, decoding absorbs them into the query."""

from __future__ import annotations

from math import prod

import pytest
import torch

import rooftile
from benchmarks.memory_bound import MEMORY_BOUND
from benchmarks.naive import LatentDecode
from rooftile.checking import check
from rooftile.codegen.emit import emit
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.latent import LatentAttention, latent_attention
from tests.regions import meta, regions

BATCH, LENGTH, LATENT, SIZE, TURNED = 32, 8192, 512, 128, 64


def decoding(heads: int, queries: int = 1) -> list[Op]:
    """The kernels of a decode step with the sizes of DeepSeek-V2-Lite, for an H100."""
    q = meta(BATCH, heads, queries, SIZE + TURNED)
    up = meta(heads * 2 * SIZE, LATENT)
    return regions(LatentDecode(), (q, meta(BATCH, LENGTH, LATENT), meta(BATCH, LENGTH, TURNED), up), "h100")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("queries", [1, 3])
def test_decoding_keeps_the_promise(dtype: torch.dtype, queries: int) -> None:
    torch.manual_seed(0)
    shapes = ((2, 4, queries, 24), (2, 70, 48), (2, 70, 8), (4 * 2 * 16, 48))
    q, latents, rotary, up = (torch.randn(shape, dtype=dtype) for shape in shapes)
    inputs = (q, latents, rotary, up * 48**-0.5)
    model = LatentDecode()
    (verdict,) = check(rooftile.compile(model), model, inputs)
    assert verdict.kept, verdict


def test_the_benchmark_is_such_a_step() -> None:
    work = MEMORY_BOUND["latent-32x8k"].workload("cpu", 0)
    assert isinstance(work.model, LatentDecode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_whole_sequences_keep_the_promise(dtype: torch.dtype) -> None:
    model, inputs = latent_attention(dtype=dtype)
    (verdict,) = check(rooftile.compile(model), model, inputs)
    assert verdict.kept, verdict


@pytest.mark.parametrize(("heads", "queries"), [(16, 1), (16, 2), (32, 1)])
def test_nothing_of_the_expanded_cache_is_computed(heads: int, queries: int) -> None:
    """The largest value between kernels is far smaller than one head's keys, and one kernel reads the latents, for all
    heads at once."""
    ops = decoding(heads, queries)
    made = [v.shape for op in ops for v in op.outputs]
    assert max(prod(int(str(n)) for n in shape) for shape in made) < BATCH * LENGTH * SIZE // 8
    latents = [op for op in ops if any(v.shape == (BATCH, LENGTH, LATENT) for v in op.inputs)]
    assert len(latents) == 1
    roles = {a.extent: (a.role, a.tile) for a in Schedule.from_attrs(latents[0].attrs).axes}
    assert roles[heads * queries] == ("grid", heads * queries)
    assert roles[LATENT] == ("whole", LATENT)


@pytest.mark.parametrize("heads", [16, 32])
def test_the_sweep_over_latents_fits(heads: int) -> None:
    op = next(op for op in decoding(heads) if any(v.shape == (BATCH, LENGTH, LATENT) for v in op.inputs))
    binary = compile_kernel(emit(op.regions[1], H100, op.regions[0]), H100.arch)
    assert binary.resources.spill_bytes == 0 and binary.shared_bytes <= H100.shared_memory
    # Latents and rotary keys, once for each stage: what is multiplied by the query and what is weighed are one tile.
    assert binary.ttgir.count("ttg.async_copy_global_to_local") == 2 * Schedule.from_attrs(op.attrs).num_stages


@pytest.mark.parametrize("in_turns", [False, True], ids=["halves", "in-turns"])
def test_keys_are_not_joined_with_their_rotary_part(in_turns: bool) -> None:
    """Which is the same for all heads, and stored once for them."""
    with torch.device("meta"):
        model = LatentAttention(2048, 16, LATENT, SIZE, TURNED, in_turns=in_turns).to(torch.bfloat16)
    for target in ("h100", "h200"):
        ops = regions(model, (meta(1, 2048, 2048),), target)
        assert not any(v.shape[-1] == SIZE + TURNED for op in ops for v in op.outputs)
        (sweep,) = (op for op in ops if "max" in op.attrs["name"])
        assert [v.type.numel for v in sweep.inputs].count(2048 * TURNED) == 1


def test_whole_sequences_make_keys_of_latents_and_store_none_beside_them() -> None:
    """Prefill multiplies in the order as written; keys are not joined with their rotary part, nor padded."""
    with torch.device("meta"):
        model = LatentAttention(2048, 16, LATENT, SIZE, TURNED).to(torch.bfloat16)
    ops = regions(model, (meta(4, 4096, 2048),), "h100")
    assert not any(v.shape == (4, 16, 4096, SIZE + TURNED) for op in ops for v in op.outputs)
    (sweep,) = (op for op in ops if "max" in op.attrs["name"])
    whole = sorted(a.tile for a in Schedule.from_attrs(sweep.attrs).axes if a.role == "whole")
    assert whole == [TURNED, SIZE, SIZE]
    binary = compile_kernel(emit(sweep.regions[1], H100, sweep.regions[0]), H100.arch)
    assert binary.resources.spill_bytes == 0
    assert 2 * binary.shared_bytes <= H100.shared_memory  # two programs share a multiprocessor
