"""What a graph calls that is traced as something else: torch's fused inference ops for ``nn.TransformerEncoderLayer``
and ``nn.MultiheadAttention``, and dropout.

The layers' Python code picks one opaque op where no gradient is needed, before a backend is asked. Tracing replaces
those ops by the ordinary ones that they stand for, so that such a layer is imported like any other. What dropout
returns may be written to, which a trace at torch.export's level forbids of the op's own result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten

# What ``mask_type`` says about a mask: over (query, key), over (batch, key) padding, or both merged to four dimensions.
_SRC_MASK, _PADDING_MASK = 0, 1


def _blocked(mask: Tensor | None, mask_type: int | None) -> Tensor | None:
    """The mask as it broadcasts over (batch, head, query, key); True keeps a key out."""
    if mask is None:
        return None
    if mask_type == _PADDING_MASK and mask.dim() == 2:
        return mask[:, None, None, :]
    return mask[None, None] if mask.dim() == 2 else mask


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, blocked: Tensor | None) -> tuple[Tensor, Tensor]:
    """(context [b, l, e], probabilities [b, h, l, s])."""
    batch, length, width = q.shape
    split = [t.view(batch, -1, heads, width // heads).transpose(1, 2) for t in (q, k, v)]
    scores = torch.matmul(split[0] * (width // heads) ** -0.5, split[1].transpose(-2, -1))
    if blocked is not None:
        scores = scores.masked_fill(blocked.to(torch.bool), float("-inf"))
    weights = torch.softmax(scores, dim=-1)
    context = torch.matmul(weights, split[2]).transpose(1, 2)
    return context.reshape(batch, length, width), weights


def native_multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``aten::_native_multi_head_attention`` over ordinary ops: (output [b, l, e], weights or an empty tensor)."""
    weights, biases = qkv_weight.chunk(3), qkv_bias.chunk(3)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    context, probabilities = _attend(q, k, v, num_head, _blocked(mask, mask_type))
    output = F.linear(context, proj_weight, proj_bias)
    if not need_weights:
        return output, query.new_empty(0)
    return output, probabilities.mean(dim=1) if average_attn_weights else probabilities


def transformer_encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """``aten::_transformer_encoder_layer_fwd`` over ordinary ops; ``src`` is [b, l, e]."""

    def attention(x: Tensor) -> Tensor:
        q, k, v = F.linear(x, qkv_weight, qkv_bias).chunk(3, -1)
        context, _ = _attend(q, k, v, num_heads, _blocked(mask, mask_type))
        return F.linear(context, proj_weight, proj_bias)

    def feed_forward(x: Tensor) -> Tensor:
        hidden = F.linear(x, ffn_weight_1, ffn_bias_1)
        return F.linear(F.gelu(hidden) if use_gelu else F.relu(hidden), ffn_weight_2, ffn_bias_2)

    def norm_1(x: Tensor) -> Tensor:
        return F.layer_norm(x, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def norm_2(x: Tensor) -> Tensor:
        return F.layer_norm(x, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    if norm_first:
        x = src + attention(norm_1(src))
        return x + feed_forward(norm_2(x))
    x = norm_1(src + attention(src))
    return norm_2(x + feed_forward(x))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``torch.nn.functional.dropout``: its input, or a result of its own."""
    if not training or p == 0:
        return input
    return F.dropout(input, p, inplace=True) if inplace else F.dropout(input, p).clone()


# Under the name that Dynamo's graphs call, and under the one in exported programs.
REPLACED: dict[Any, Callable[..., Any]] = {
    F.dropout: dropout,
    torch.dropout: lambda input, p, train: dropout(input, p, train),
    aten.dropout.default: lambda input, p, train: dropout(input, p, train),
    torch._native_multi_head_attention: native_multi_head_attention,
    torch._transformer_encoder_layer_fwd: transformer_encoder_layer,
    aten._native_multi_head_attention.default: native_multi_head_attention,
    aten._transformer_encoder_layer_fwd.default: transformer_encoder_layer,
}
