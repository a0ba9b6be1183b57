"""Biases on the scores, soft caps, and sinks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.attention.variant import Table

biases, sinks = Table("bias"), Table("sink")


def scaled(q: Tensor, k: Tensor) -> Tensor:
    """The scores that are biased."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def apart(q: Tensor, k: Tensor) -> Tensor:
    """How far each key lies behind each query."""
    return torch.arange(q.shape[-2], device=q.device)[:, None] - torch.arange(k.shape[-2], device=q.device)


@biases(square=True)
def alibi(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    slopes = 2.0 ** (-8.0 / q.shape[1] * torch.arange(1, q.shape[1] + 1, device=q.device))
    bias = -slopes[:, None, None] * apart(q, k).abs()
    return (scaled(q, k) + bias.to(q.dtype)).softmax(-1) @ v


@biases(slopes="h: positive", square=True)
def alibi_causal(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    scores = scaled(q, k) + slopes[:, None, None] * torch.arange(k.shape[-2], device=q.device)
    return scores.masked_fill(apart(q, k) < 0, -math.inf).softmax(-1) @ v


def t5_bucket(relative: Tensor, buckets: int = 32, longest: int = 128) -> Tensor:
    """T5's buckets for positions in both directions."""
    buckets //= 2
    result = (relative > 0).long() * buckets
    n = relative.abs()
    exact = buckets // 2
    large = exact + (torch.log(n.float() / exact) / math.log(longest / exact) * (buckets - exact)).long()
    return result + torch.where(n < exact, n, torch.min(large, torch.full_like(large, buckets - 1)))


@biases(table="32 h: small", kernels=2)
def t5(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    bias = F.embedding(t5_bucket(-apart(q, k)), table).permute(2, 0, 1)[None]
    return F.softmax((q @ k.mT + bias).float(), dim=-1).type_as(q) @ v


@biases(table="h 9001: small")
def learned_by_distance(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    return (scaled(q, k) + table[:, apart(q, k) + 4500]).softmax(-1) @ v


@biases(table="9 h: small", kernels=2)
def learned_clipped(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    return (scaled(q, k) + table[apart(q, k).clamp(-4, 4) + 4].permute(2, 0, 1)).softmax(-1) @ v


@biases(table="15 h: small", index="i j: relative")
def learned_by_index(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor) -> Tensor:
    bias = table[index.view(-1)].view(*index.shape, -1).permute(2, 0, 1).contiguous()
    return (scaled(q, k) + bias.unsqueeze(0)).softmax(-1) @ v


@biases(table="h i j")
def learned_in_full(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    return (scaled(q, k) + table).softmax(-1) @ v


@biases(table="15 d: small", index="i j: relative", sizes={"h": 2}, kernels=2)
def from_queries(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor) -> Tensor:
    by_place = q @ table.T
    bias = by_place.gather(-1, index.expand(*q.shape[:-1], -1))
    return ((q @ k.mT + bias) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@biases(table="9 d: small", sizes={"h": 2}, kernels=2)
def shaw(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    places = (apart(q, k).clamp(-4, 4) + 4).expand(*q.shape[:2], -1, -1)
    bias = torch.gather(torch.einsum("bhid,rd->bhir", q, table), -1, places)
    return ((q @ k.mT + bias) * q.shape[-1] ** -0.5).softmax(-1) @ v


@biases(table_k="9 d: small", table_q="9 d: small", sizes={"h": 2}, square=True, kernels=3)
def disentangled(q: Tensor, k: Tensor, v: Tensor, table_k: Tensor, table_q: Tensor) -> Tensor:
    places = (apart(q, k).clamp(-4, 4) + 4).expand(*q.shape[:2], -1, -1)
    from_q = torch.gather(q @ table_k.T, -1, places)
    from_k = torch.gather(k @ table_q.T, -1, places.mT).mT
    return ((q @ k.mT + from_q + from_k) / math.sqrt(3 * q.shape[-1])).softmax(-1) @ v


@biases(gate="h d: small", kernels=2)
def from_keys(q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    bias = torch.einsum("bhjd,hd->bhj", k, gate)[:, :, None]
    return (scaled(q, k) + bias).softmax(-1) @ v


@biases(
    u="h 1 d: small",
    w="h 1 d: small",
    places="h r d: small",
    square=True,
    kernels=2,
    cut=("contract", "cost"),
    stored=1,
)
def transformer_xl(q: Tensor, k: Tensor, v: Tensor, u: Tensor, w: Tensor, places: Tensor) -> Tensor:
    b, h, n, _ = q.shape
    by_place = (q + w) @ places[:, : 2 * n - 1].mT
    # Each row shifted by one more: pad by a column, read the whole with rows that are one shorter.
    shifted = F.pad(by_place, (1, 0)).view(b, h, 2 * n, n)[:, :, 1:].reshape(b, h, n, 2 * n - 1)[..., :n]
    return (((q + u) @ k.mT + shifted) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@biases(c="b h i 1: positive", f="b h 1 j: positive")
def decays(q: Tensor, k: Tensor, v: Tensor, c: Tensor, f: Tensor) -> Tensor:
    return (scaled(q, k) + torch.log(c) - torch.log(f)).softmax(-1) @ v


@biases()
def soft_cap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (torch.tanh(scaled(q, k) / 5.0) * 5.0).softmax(-1) @ v


@biases(square=True)
def soft_cap_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = 30.0 * torch.tanh(scaled(q, k) / 30.0)
    return F.softmax(scores.masked_fill(apart(q, k) < 0, -math.inf), -1, dtype=torch.float32).to(q.dtype) @ v


@sinks(sink="h")
def sink_column(q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> Tensor:
    column = sink.reshape(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[-2], -1)
    logits = torch.cat([scaled(q, k), column], dim=-1)
    logits = logits - logits.max(dim=-1, keepdim=True).values
    return F.softmax(logits, dim=-1, dtype=logits.dtype)[..., :-1] @ v


@sinks(sink="h", mask="b 1 i j: -inf")
def sink_column_first(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, mask: Tensor) -> Tensor:
    column = sink.view(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[-2], 1)
    return torch.cat([column, scaled(q, k) + mask], dim=-1).softmax(-1)[..., 1:] @ v


@sinks(sink="h")
def sink_gate(q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> Tensor:
    scores = scaled(q, k)
    out = scores.softmax(-1) @ v
    return out * torch.sigmoid(scores.logsumexp(-1) - sink[:, None]).unsqueeze(-1)


@sinks()
def one_more(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    e = scaled(q, k).exp()
    return (e / (1 + e.sum(-1, keepdim=True))) @ v


@sinks(mask="b 1 i j: -inf")
def one_more_stable(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = scaled(q, k) + mask
    most = scores.amax(-1, keepdim=True).clamp(min=0)
    e = (scores - most).exp()
    return (e / ((-most).exp() + e.sum(-1, keepdim=True))) @ v


@sinks()
def zero_key(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = F.pad(scaled(q, k), (1, 0))
    return scores.softmax(-1)[..., 1:] @ v


@sinks()
def zero_key_and_value(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    zero = torch.zeros_like(k[..., :1, :])
    k, v = torch.cat([k, zero], -2), torch.cat([v, zero], -2)
    return scaled(q, k).softmax(-1) @ v


@sinks(k_0="h 1 d", v_0="h 1 d")
def learned_key_and_value(q: Tensor, k: Tensor, v: Tensor, k_0: Tensor, v_0: Tensor) -> Tensor:
    b = q.shape[0]
    k = torch.cat([k_0.expand(b, -1, -1, -1), k], -2)
    v = torch.cat([v_0.expand(b, -1, -1, -1), v], -2)
    return scaled(q, k).softmax(-1) @ v


@sinks(past_k="b h 23 d", past_v="b h 23 d")
def cache_in_front(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> Tensor:
    k, v = torch.cat([past_k, k], -2), torch.cat([past_v, v], -2)
    return scaled(q, k).softmax(-1) @ v
