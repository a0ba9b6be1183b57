"""Real model code, end to end on the CPU: one graph, no ATen call, the promise kept in every dtype and size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rooftile
from rooftile.checking import check
from rooftile.compilation import Compilation
from rooftile.driver import collecting
from tests.models import BLOCKS, bert_layer, encoder_layer, gpt2_block, llama_layer, textbook_block, vit
from tests.versions import FAST_PATH

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    """Models share code: without this the eighth size of one layer would run uncompiled."""
    torch._dynamo.reset()


def assert_kept(model: nn.Module, inputs: tuple[Any, ...], *, dynamic: bool | None = None) -> Compilation:
    with collecting() as compilations:
        verdicts = check(rooftile.compile(model, dynamic=dynamic), model, inputs)
    assert verdicts and all(v.kept for v in verdicts), [str(v) for v in verdicts]
    (compilation,) = compilations
    assert not [op for op in compilation.graph.ops if op.name == "extern"]
    return compilation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str, dtype: str) -> None:
    assert_kept(*BLOCKS[name](dtype=DTYPES[dtype]))


@pytest.mark.parametrize("length", [1, 129, 1000])
@pytest.mark.parametrize("build", [llama_layer, gpt2_block, textbook_block])
def test_lengths_that_fit_no_tile(build: Any, length: int) -> None:
    assert_kept(*build(batch=1, length=length, width=32, heads=2))


@pytest.mark.parametrize("build", [llama_layer, bert_layer, encoder_layer, textbook_block])
def test_other_batches(build: Any) -> None:
    for batch in (1, 3):
        assert_kept(*build(batch=batch, dtype=torch.bfloat16))
        torch._dynamo.reset()


@pytest.mark.parametrize(("width", "heads"), [(96, 1), (320, 1), (160, 5)])
@pytest.mark.parametrize("build", [llama_layer, gpt2_block])
def test_head_sizes_that_are_no_power_of_two(build: Any, width: int, heads: int) -> None:
    given = {"kv_heads": 1} if build is llama_layer else {}
    assert_kept(*build(batch=1, length=9, width=width, heads=heads, **given))


def test_several_layers_and_an_odd_image() -> None:
    assert_kept(*vit(batch=3, image=12, layers=2))


@pytest.mark.parametrize("build", [llama_layer, bert_layer])
def test_inputs_that_are_not_contiguous(build: Any) -> None:
    model, (x,) = build()
    transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
    strided = torch.empty(*x.shape[:-1], 2 * x.shape[-1]).copy_(torch.cat([x, x], -1))[..., ::2]
    sliced = torch.cat([x, x], dim=1)[:, 3 : 3 + x.shape[1]]
    for other in (transposed, strided, sliced):
        assert not other.is_contiguous()
        assert_kept(model, (other,))
        torch._dynamo.reset()


@pytest.mark.parametrize("build", [llama_layer, pytest.param(encoder_layer, marks=FAST_PATH)])
def test_one_compilation_serves_every_length(build: Any) -> None:
    model, _ = build()
    fast = rooftile.compile(model, dynamic=True)
    with collecting() as compilations:
        for length in (7, 12, 33):
            _, inputs = build(length=length)
            assert all(v.kept for v in check(fast, model, inputs))
    assert len(compilations) == 1


def test_the_compiled_forward_with_gradients_on_is_the_inference_graph() -> None:
    model, inputs = llama_layer()
    assert all(p.requires_grad for p in model.parameters())
    with collecting() as with_gradients:
        rooftile.compile(model)(*inputs)
    torch._dynamo.reset()
    with collecting() as without, torch.no_grad():
        rooftile.compile(model)(*inputs)
    assert [len(c.kernels) for c in with_gradients] == [len(c.kernels) for c in without]
