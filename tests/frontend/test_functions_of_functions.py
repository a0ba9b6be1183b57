"""Functions of functions that torch defines in ordinary ops are part of the graph: FlexAttention above all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import rooftile
from rooftile.compilation import Compilation
from rooftile.driver import collecting
from rooftile.report.collect import report_of
from tests.frontend.captures import distance, run

flex = import_module("torch._higher_order_ops.flex_attention")  # as an attribute, its name is that of the op in it

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


@pytest.mark.parametrize("mask", [None, *MASKS])
def test_a_mask_keeps_the_promise(mask: str | None) -> None:
    q, k, v = heads(2, torch.float32 if mask in ("empty rows", "by head") else torch.bfloat16)
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


def kernels_of(compilations: Sequence[Compilation]) -> list[list[str]]:
    """What each compilation launches and calls, by name."""
    return [[str(op.attrs.get("name", op.attrs.get("target"))) for op in c.graph.ops] for c in compilations]


@pytest.mark.parametrize("mask", ["causal", "window", "prefix"])
def test_a_mask_bounds_the_sweep(mask: str) -> None:
    """As the same mask spelled with ``masked_fill`` does; the block mask's tables are not read."""
    shape = (1, 2, 1024, 64)
    blocks = create_block_mask(MASKS[mask], None, None, 1024, 1024, device="cpu")

    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        return flex_attention(q, k, v, block_mask=blocks)

    def spelled(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        i, j = torch.arange(1024)[:, None], torch.arange(1024)
        scores = (q @ k.mT).float() * 0.125
        hidden = ~MASKS[mask](i, i, i, j)
        return scores.masked_fill(hidden, -torch.inf).softmax(-1).to(v.dtype) @ v

    inputs = [torch.randn(shape, dtype=torch.bfloat16) for _ in range(3)]
    steps, wanted = (steps_of(f, *inputs, blocks) for f in (attend, spelled))
    assert steps == wanted
    assert steps[0] < steps[1]


def test_rows_sums_come_of_the_same_sweep() -> None:
    """Neither they nor the mean need the scores stored."""
    blocks = create_block_mask(MASKS["causal"], None, None, 1024, 1024, device="cpu")

    def alone(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        return flex_attention(q, k, v, block_mask=blocks)

    def with_sums(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> tuple[Tensor, ...]:
        return flex_attention(q, k, v, block_mask=blocks, return_lse=True)

    inputs = [torch.randn(1, 2, 1024, 64, dtype=torch.bfloat16) for _ in range(3)]
    steps, wanted = (steps_of(f, *inputs, blocks) for f in (with_sums, alone))
    assert steps == wanted


def steps_of(function: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Any) -> list[Any]:
    """How many steps the only kernel for an H100 visits, of how many, and in which phases."""
    torch._dynamo.reset()
    with torch.no_grad(), collecting() as compilations:
        rooftile.compile(function, options={"target": "h100"})(*inputs)
    (kernel,) = report_of(compilations).kernels
    (loop,) = kernel.loops
    return [loop.visited, loop.total, loop.phases]


def test_lengths_may_change() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        return flex_attention(q, k, v, score_mod=SCORES["alibi"], block_mask=blocks)

    torch._dynamo.reset()
    fast = rooftile.compile(attend, dynamic=True)
    with torch.no_grad(), collecting() as compilations:
        for length in (140, 200, 260):
            q, k, v = (torch.randn(1, HEADS, length, WIDTH) for _ in range(3))
            blocks = create_block_mask(MASKS["window"], None, None, length, length, device="cpu")
            torch.testing.assert_close(fast(q, k, v, blocks), attend(q, k, v, blocks))
    assert len(kernels_of(compilations)) == 1 and len(kernels_of(compilations)[0]) == 1


class Exported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("documents", DOCUMENTS)
        self.register_buffer("slopes", SLOPES)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        documents, slopes, length = self.documents, self.slopes, q.shape[-2]
        blocks = create_block_mask(
            lambda b, h, i, j: (i >= j) & (documents[i] == documents[j]), None, None, length, length, device="cpu"
        )
        mixed = flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + slopes[h] * (j - i), block_mask=blocks)
        return self.proj(mixed)  # type: ignore[no-any-return]


def test_it_is_exported_and_a_block_mask_made_on_the_way_costs_nothing() -> None:
    torch.manual_seed(0)
    module, inputs = Exported().eval(), heads()
    with torch.no_grad(), collecting() as compilations:
        program = rooftile.export(module, inputs, options={"require": ["no-extern"]})
        torch.testing.assert_close(program(*inputs), module(*inputs))
    assert len(kernels_of(compilations)[0]) <= 2


def laid_out_in_torch_2_11(out: Tensor, query_strides: tuple[int, ...]) -> Tensor:
    """How that version lays the result of an attention out as its queries lie."""
    from torch._inductor.ir import get_fill_order

    strides = flex._construct_strides(out.shape, get_fill_order(query_strides))
    laid = out.new_empty(out.shape).as_strided(out.shape, strides)
    laid.copy_(out)
    return laid


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_definition_of_another_torch(monkeypatch: pytest.MonkeyPatch, dynamic: bool) -> None:
    monkeypatch.setattr(flex, "_permute_strides", laid_out_in_torch_2_11)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flex_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)) + 1

    inputs = [x.transpose(1, 2).contiguous() for x in heads()]
    torch._dynamo.reset()
    with torch.no_grad(), collecting() as compilations:
        got, want = rooftile.compile(attend, dynamic=dynamic)(*inputs), attend(*inputs)
    torch.testing.assert_close(got, want)
    assert got.stride() == want.stride()
    assert len(kernels_of(compilations)[0]) == 1


def test_what_else_it_returns() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> tuple[Tensor, Tensor]:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mixed, sums = flex_attention(q, k, v, block_mask=blocks, return_lse=True)
        return mixed.transpose(1, 2), sums

    torch._dynamo.reset()
    inputs = [x.transpose(1, 2).contiguous() for x in heads()]
    blocks = block_mask(MASKS["empty rows"])
    with torch.no_grad():
        got, want = rooftile.compile(attend)(*inputs, blocks), attend(*inputs, blocks)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y)
        assert x.stride() == y.stride()


def test_autocast_is_followed() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return flex_attention(q, k, v, score_mod=SCORES["cap"])

    keeps_the_promise(attend, *heads())


def test_gradients_flow_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses them on the CPU, but not on a GPU."""
    monkeypatch.setattr(import_module("torch.nn.attention.flex_attention"), "_validate_device", lambda *_: None)
    length = 60
    slopes = SLOPES.clone().requires_grad_()
    q, *_ = inputs = [torch.randn(1, n, length, WIDTH, requires_grad=True) for n in (HEADS, 2, 2)]
    blocks = create_block_mask(lambda b, h, i, j: i >= j + 2, None, None, length, length, device="cpu")

    def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask, slopes: Tensor) -> Tensor:
        score = lambda s, b, h, i, j: s + slopes[h] * (j - i)  # noqa: E731
        return flex_attention(q, k, v, block_mask=blocks, score_mod=score, enable_gqa=True)

    def spelled(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
        k, v = (x.repeat_interleave(2, 1) for x in (k, v))
        i, j = torch.arange(length)[:, None], torch.arange(length)
        scores = q @ k.mT / WIDTH**0.5 + slopes[:, None, None] * (j - i)
        return torch._safe_softmax(scores.masked_fill(i < j + 2, -torch.inf), -1) @ v

    torch._dynamo.reset()
    got, want = rooftile.compile(attend)(*inputs, blocks, slopes), spelled(*inputs, slopes)
    torch.testing.assert_close(got, want)
    given, wanted = [*inputs, slopes], torch.randn_like(q)
    torch.testing.assert_close(torch.autograd.grad(got, given, wanted), torch.autograd.grad(want, given, wanted))


def test_a_model_of_transformers_attends_in_one_kernel_as_with_sdpa() -> None:
    """At its block mask Dynamo breaks, whatever compiles the graphs."""
    transformers = pytest.importorskip("transformers")
    tokens = torch.randint(0, 64, (1, 130))
    kernels: list[list[str]] = []
    for implementation in ("sdpa", "flex_attention"):
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=64,
            attn_implementation=implementation,
        )
        model = transformers.LlamaForCausalLM(config).eval()
        torch._dynamo.reset()
        with torch.no_grad(), collecting() as compilations:
            got = rooftile.compile(model)(tokens, use_cache=False).logits
            torch.testing.assert_close(got, model(tokens, use_cache=False).logits)
        kernels.append([name for names in kernels_of(compilations) for name in names if "contract_max_sum" in name])
    assert [len(names) for names in kernels] == [1, 1]
