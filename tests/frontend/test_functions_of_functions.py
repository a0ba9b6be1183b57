"""Functions of functions that torch defines in ordinary ops are part of the graph: FlexAttention above all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import rooftile
from rooftile.backend import Backend
from rooftile.config import CompileOptions
from rooftile.driver import collecting
from tests.frontend.captures import distance, run

HEADS, LENGTH, WIDTH = 4, 200, 16
DOCUMENTS = torch.arange(LENGTH) // 70
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

MASKS: dict[str, Mask] = {
    "causal": lambda b, h, i, j: i >= j,
    "window": lambda b, h, i, j: (i >= j) & (i - j < 40),
    "prefix": lambda b, h, i, j: (i >= j) | (j < 30),
    "documents": lambda b, h, i, j: (i >= j) & (DOCUMENTS[i] == DOCUMENTS[j]),
    "empty rows": lambda b, h, i, j: i + 20 < j,
    "by head": lambda b, h, i, j: i >= j + h,
}
SCORES: dict[str, Any] = {
    "alibi": lambda s, b, h, i, j: s + SLOPES[h] * (j - i),
    "cap": lambda s, b, h, i, j: 20 * torch.tanh(s / 20),
    "relative": lambda s, b, h, i, j: s + (i - j).abs().clamp(max=9) * 0.1,
    "bias": lambda s, b, h, i, j: s + BIAS[i, j],
}
BIAS = torch.linspace(-1, 1, LENGTH * LENGTH).reshape(LENGTH, LENGTH)


def heads(key_heads: int = HEADS, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = [(2, n, LENGTH, WIDTH) for n in (HEADS, key_heads, key_heads)]
    q, k, v = (torch.randn(shape).to(dtype) for shape in shapes)
    return q, k, v


def block_mask(mask: Mask, length: int = LENGTH) -> BlockMask:
    return create_block_mask(mask, None, HEADS, length, length, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("mask", [None, *MASKS])
def test_a_mask_keeps_the_promise(mask: str | None, dtype: torch.dtype) -> None:
    q, k, v = heads(2, dtype)
    blocks = block_mask(MASKS[mask]) if mask else None

    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask | None) -> Tensor:
        return flex_attention(q, k, v, block_mask=blocks, enable_gqa=True)

    keeps_the_promise(attend, q, k, v, blocks)


@pytest.mark.parametrize("score", list(SCORES))
def test_a_score_keeps_the_promise(score: str) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        return flex_attention(q, k, v, score_mod=SCORES[score], block_mask=blocks)

    keeps_the_promise(attend, *heads(), block_mask(MASKS["causal"]))


def keeps_the_promise(function: Callable[..., Tensor], *inputs: Any) -> None:
    """One kernel that computes ``function``, no ATen call, and no further from the truth than eager."""
    with torch.no_grad():
        _, truth, recorder = run(function, *inputs)
        want = function(*inputs)
        torch._dynamo.reset()
        with collecting() as compilations:
            got = rooftile.compile(function)(*inputs)
    assert not recorder.externs
    (compilation,) = compilations
    assert sum("contract" in kernel.name for kernel in compilation.kernels.values()) == 1
    assert torch.equal(got.isnan(), want.isnan())
    assert distance(got, truth) <= 1.1 * distance(want, truth) + 4e-7
    assert got.stride() == want.stride()
