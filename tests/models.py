"""Real model code for end-to-end tests, small, with random weights; each builder returns ``(module, inputs)`` for eval.

``BLOCKS`` lists them all by name; sizes, dtype and device are parameters. The transformers models come from their
configurations; nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Built: TypeAlias = tuple[nn.Module, tuple[Tensor, ...]]


class _Called(nn.Module):
    """A layer with the keyword arguments that its model would give it; returns the hidden states alone."""

    def __init__(self, layer: nn.Module, arguments: Callable[[Tensor], dict[str, Any]]) -> None:
        super().__init__()
        self.layer = layer
        self.arguments = arguments

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x, **self.arguments(x))
        return out[0] if isinstance(out, tuple) else out


def finish(module: nn.Module, dtype: torch.dtype, device: str, *inputs: Tensor) -> Built:
    """``module`` in eval mode with random weights, and ``inputs``, both there and in ``dtype``."""
    torch.manual_seed(0)
    # The configurations' own initial weights would hide mistakes: zero biases, tiny matrices.
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[-1]))
        if parameter.dim() == 1:
            parameter.data += 0.5
    moved = tuple(x.to(device, dtype) if x.is_floating_point() else x.to(device) for x in inputs)
    return module.to(device, dtype).eval(), moved


def hidden(batch: int, length: int, width: int) -> Tensor:
    """Hidden states with a few large values, as real ones have."""
    x = torch.randn(batch, length, width, generator=torch.Generator().manual_seed(1))
    x[..., 3] *= 5
    return x


def _causal_mask(x: Tensor) -> Tensor:
    length = x.shape[1]
    return torch.full((length, length), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device).triu(1)[None, None]


def _attention_arguments(attention: str) -> Callable[[Tensor], dict[str, Any]]:
    # transformers' SDPA path is causal by itself where no mask is given; its eager path is not.
    return lambda x: {"attention_mask": _causal_mask(x) if attention == "eager" else None}


def gpt2_block(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, attention: str = "sdpa",
    dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """transformers' ``GPT2Block``: fused QKV through Conv1D, tanh GELU."""
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    config = GPT2Config(n_embd=width, n_head=heads, attn_implementation=attention)
    layer = _Called(GPT2Block(config, layer_idx=0), _attention_arguments(attention))
    return finish(layer, dtype, device, hidden(batch, length, width))


class _LlamaLayer(nn.Module):
    def __init__(self, config: Any) -> None:
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

        super().__init__()
        self.layer = LlamaDecoderLayer(config, layer_idx=0)
        self.rotary = LlamaRotaryEmbedding(config)
        self.eager = config._attn_implementation == "eager"

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device)[None]
        mask = _causal_mask(x) if self.eager else None
        return self.layer(x, attention_mask=mask, position_embeddings=self.rotary(x, positions))


def llama_layer(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, kv_heads: int = 2, inner: int = 128,
    attention: str = "sdpa", dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """transformers' ``LlamaDecoderLayer`` with its rotary embedding: RMSNorm, RoPE, grouped queries, SwiGLU."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        attn_implementation=attention,
    )
    return finish(_LlamaLayer(config), dtype, device, hidden(batch, length, width))


def bert_layer(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, attention: str = "sdpa",
    dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """transformers' ``BertLayer``: post-LN, exact GELU, no mask."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, attn_implementation=attention
    )
    return finish(_Called(BertLayer(config), lambda x: {}), dtype, device, hidden(batch, length, width))


class _Vit(nn.Module):
    def __init__(self, config: Any) -> None:
        from transformers.models.vit.modeling_vit import ViTModel

        super().__init__()
        self.model = ViTModel(config, add_pooling_layer=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state


def vit(
    batch: int = 2, image: int = 16, patch: int = 4, width: int = 64, heads: int = 4, layers: int = 1,
    attention: str = "sdpa", dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """transformers' ``ViTModel``: patch convolution, class token, learned positions, ``layers`` layers, final norm."""
    from transformers import ViTConfig

    config = ViTConfig(
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=4 * width,
        image_size=image,
        patch_size=patch,
        attn_implementation=attention,
    )
    pixels = torch.randn(batch, 3, image, image, generator=torch.Generator().manual_seed(1))
    return finish(_Vit(config), dtype, device, pixels)


def encoder_layer(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, norm_first: bool = False,
    activation: str = "relu", dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """torch's own ``nn.TransformerEncoderLayer``, batch first."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 2 * width, activation=activation, batch_first=True, norm_first=norm_first
    )
    return finish(layer, dtype, device, hidden(batch, length, width))


class TextbookAttention(nn.Module):
    """Causal attention as textbooks write it: fused QKV, a ``tril`` buffer, softmax in the model's dtype."""

    def __init__(self, width: int, heads: int, longest: int = 64) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)
        self.register_buffer("mask", torch.tril(torch.ones(longest, longest)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(d, dim=2))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(self.mask[:n, :n] == 0, float("-inf"))
        context = self.drop(F.softmax(scores, dim=-1)) @ v
        return self.out(context.transpose(1, 2).contiguous().view(b, n, d))


class RMSNorm(nn.Module):
    """RMSNorm by hand. ``cast_first``: back to the input's dtype before the weight (Llama), or after it."""

    def __init__(self, width: int, cast_first: bool = True, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.cast_first = cast_first
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        if self.cast_first:
            return (self.offset + self.weight) * wide.to(x.dtype)
        return (wide * (self.offset + self.weight.float())).to(x.dtype)


class GatedFeedForward(nn.Module):
    """``down(act(gate(x)) * up(x))``, gate and up in one matrix where ``fused``."""

    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor], fused: bool) -> None:
        super().__init__()
        self.activation = activation
        self.gate_up = nn.Linear(width, 2 * inner, bias=False) if fused else None
        self.gate = None if fused else nn.Linear(width, inner, bias=False)
        self.up = None if fused else nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1) if self.gate_up is not None else (self.gate(x), self.up(x))
        return self.down(self.activation(gate) * up)


class FeedForward(nn.Module):
    """``down(act(up(x)))``."""

    def __init__(self, width: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """A transformer block of given parts; ``order`` is ``"pre"``, ``"post"`` or ``"parallel"``."""

    def __init__(self, attention: nn.Module, feed_forward: nn.Module, norms: tuple[nn.Module, nn.Module], order: str):
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.norm_1, self.norm_2 = norms
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "parallel":
            y = self.norm_1(x)
            return x + self.attention(y) + self.feed_forward(self.norm_2(x))
        if self.order == "post":
            x = self.norm_1(x + self.attention(x))
            return self.norm_2(x + self.feed_forward(x))
        x = x + self.attention(self.norm_1(x))
        return x + self.feed_forward(self.norm_2(x))


def gelu_tanh_by_hand(x: Tensor) -> Tensor:
    """GPT-2's GELU, spelled out."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def squared_relu(x: Tensor) -> Tensor:
    """``relu(x) ** 2`` (Primer)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_by_hand": gelu_tanh_by_hand,
    "relu": F.relu,
    "silu": F.silu,
    "squared_relu": squared_relu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "layer_no_bias": lambda width: nn.LayerNorm(width, bias=False),
    "rms": RMSNorm,
    "rms_cast_last": lambda width: RMSNorm(width, cast_first=False),
    "rms_offset": lambda width: RMSNorm(width, offset=1.0),
    "torch_rms": lambda width: nn.RMSNorm(width, eps=1e-6),
}


def textbook_block(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, norm: str = "layer", activation: str = "gelu",
    order: str = "pre", gated: bool = False, fused: bool = True,
    dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """A block from the parts above: ``norm`` of ``NORMS``, ``activation`` of ``ACTIVATIONS``, gated or not."""
    act = ACTIVATIONS[activation]
    feed = GatedFeedForward(width, 2 * width, act, fused) if gated else FeedForward(width, act)
    longest = max(64, length)
    block = Block(TextbookAttention(width, heads, longest), feed, (NORMS[norm](width), NORMS[norm](width)), order)
    return finish(block, dtype, device, hidden(batch, length, width))


def gated_feed_forward(
    batch: int = 2, length: int = 7, width: int = 64, inner: int = 128, dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Built:  # fmt: skip
    """SwiGLU: ``down(silu(gate(x)) * up(x))``, gate and up two matrices."""
    layer = GatedFeedForward(width, inner, torch.nn.functional.silu, fused=False)
    return finish(layer, dtype, device, hidden(batch, length, width))


class Embeddings(nn.Module):
    """Token and position embeddings: sinusoidal ones (Vaswani et al., 2017) are computed, learned ones looked up."""

    def __init__(self, words: int, width: int, learned: bool, longest: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(longest, width) if learned else None
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens)
        if self.places is not None:
            return x + self.places(positions)
        steps = torch.arange(0, self.width, 2, device=tokens.device)
        angles = positions[:, None] * torch.exp(steps * (-math.log(10000.0) / self.width))
        waves = torch.stack((torch.sin(angles), torch.cos(angles)), dim=-1).flatten(-2)
        return x * math.sqrt(self.width) + waves.to(x.dtype)


def embeddings(
    batch: int = 2, length: int = 7, width: int = 64, words: int = 50, learned: bool = False,
    dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """Token embeddings plus sinusoidal or learned positions."""
    tokens = torch.randint(words, (batch, length), generator=torch.Generator().manual_seed(1))
    return finish(Embeddings(words, width, learned, max(64, length)), dtype, device, tokens)


class _BatchNormed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, width)
        generator = torch.Generator().manual_seed(2)
        self.norm.running_mean.copy_(torch.randn(width, generator=generator))
        self.norm.running_var.copy_(torch.rand(width, generator=generator) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x.transpose(1, 2)).transpose(1, 2))


def batch_norm(
    batch: int = 2, length: int = 7, width: int = 64, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Built:
    """``BatchNorm1d`` with running statistics, before a linear layer."""
    return finish(_BatchNormed(width), dtype, device, hidden(batch, length, width))


def _variant(build: Callable[..., Built], **fixed: Any) -> Callable[..., Built]:
    return lambda **given: build(**{**fixed, **given})


BLOCKS: dict[str, Callable[..., Built]] = {
    "gpt2": gpt2_block,
    "gpt2_eager": _variant(gpt2_block, attention="eager"),
    "llama": llama_layer,
    "llama_eager": _variant(llama_layer, attention="eager"),
    "bert": bert_layer,
    "vit": vit,
    "encoder": encoder_layer,
    "encoder_norm_first": _variant(encoder_layer, norm_first=True, activation="gelu"),
    "textbook": textbook_block,
    "textbook_post": _variant(textbook_block, order="post", activation="relu"),
    "textbook_parallel": _variant(textbook_block, order="parallel", activation="gelu_tanh", norm="layer_no_bias"),
    "textbook_swiglu": _variant(textbook_block, norm="rms", activation="silu", gated=True, fused=False),
    "textbook_geglu": _variant(textbook_block, norm="rms_cast_last", activation="gelu", gated=True),
    "textbook_gelu_by_hand": _variant(textbook_block, activation="gelu_by_hand"),
    "textbook_squared_relu": _variant(textbook_block, norm="torch_rms", activation="squared_relu"),
    "textbook_quick_gelu": _variant(textbook_block, norm="rms_offset", activation="quick_gelu"),
    "sinusoidal": embeddings,
    "learned_positions": _variant(embeddings, learned=True),
    "batch_norm": batch_norm,
}
