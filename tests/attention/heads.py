"""Heads: one for all, groups that share keys and values in every spelling of ``repeat_kv``, sizes, normalised heads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.attention.variant import Table

heads = Table("heads")


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The plainest spelling."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return F.softmax(scores, dim=-1) @ v


heads.add("matmul", attend)
heads.add("one_batch_dimension", attend, q="h i d", k="h j d", v="h j d")
heads.add("no_batch", attend, q="i d", k="j d", v="j d")
for size in (32, 80, 96, 128, 192, 256):
    heads.add(f"head_size_{size}", attend, sizes={"d": size, "h": 2, "b": 1})
heads.add("value_size", attend, v="b h j e", sizes={"d": 192, "e": 128, "b": 1, "h": 2})
heads.add("wide_values", attend, v="b h j e", sizes={"d": 64, "e": 192, "b": 1, "h": 2})


@heads()
def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5, dim=-1)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


@heads(q="b i h d", k="b j h d", v="b j h d")
def heads_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5, dim=-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)


@heads()
def bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    q, k, v = (t.reshape(b * h, -1, d) for t in (q, k, v))
    return torch.bmm(torch.softmax(torch.bmm(q, k.mT) / math.sqrt(d), -1), v).view(b, h, i, d)


@heads()
def product_and_sum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q[..., :, None, :] * k[..., None, :, :]).sum(-1) / math.sqrt(q.shape[-1])
    return (scores.softmax(-1)[..., None] * v[..., None, :, :]).sum(-2)


@heads(q=None, k=None, v=None, x="b i c", w_qkv="72 c: small", square=True, sizes={"h": 3, "d": 8, "c": 24}, kernels=2)
def from_hidden(x: Tensor, w_qkv: Tensor) -> Tensor:
    b, n, _ = x.shape
    q, k, v = F.linear(x, w_qkv).view(b, n, 3, 3, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return attend(q, k, v).transpose(1, 2).reshape(b, n, -1)


heads.add("mqa_broadcast", attend, k="b 1 j d", v="b 1 j d")


@heads(k="b j d", v="b j d")
def mqa_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (torch.einsum("bhid,bjd->bhij", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
    return torch.einsum("bhij,bjd->bhid", weights, v)


@heads(k="b 1 j d", v="b 1 j d")
def mqa_expand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k.expand(-1, q.shape[1], -1, -1), v.expand(-1, q.shape[1], -1, -1))


GROUPED = {"k": "b g j d", "v": "b g j d"}


@heads(**GROUPED)
def gqa_expand_reshape(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def repeat_kv(x: Tensor, times: int) -> Tensor:
        b, g, n, d = x.shape
        return x[:, :, None, :, :].expand(b, g, times, n, d).reshape(b, g * times, n, d)

    times = q.shape[1] // k.shape[1]
    return attend(q, repeat_kv(k, times), repeat_kv(v, times))


@heads(**GROUPED)
def gqa_repeat_interleave(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    times = q.shape[1] // k.shape[1]
    return attend(q, k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1))


@heads(**GROUPED)
def gqa_repeat(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    times = q.shape[1] // k.shape[1]
    return attend(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1))


@heads(**GROUPED)
def gqa_stack(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, torch.stack([k, k], 2).flatten(1, 2), torch.stack([v, v], 2).flatten(1, 2))


@heads(**GROUPED)
def gqa_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    grouped = q.view(b, k.shape[1], -1, i, d)
    weights = (torch.einsum("bgrid,bgjd->bgrij", grouped, k) / math.sqrt(d)).softmax(-1)
    return torch.einsum("bgrij,bgjd->bgrid", weights, v).reshape(b, h, i, d)


@heads(**GROUPED)
def gqa_einsum_fast_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    grouped = q.view(b, -1, k.shape[1], i, d)
    weights = (torch.einsum("brgid,bgjd->brgij", grouped, k) / math.sqrt(d)).softmax(-1)
    return torch.einsum("brgij,bgjd->brgid", weights, v).reshape(b, h, i, d)


@heads(**GROUPED)
def gqa_broadcast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    out = attend(q.view(b, k.shape[1], -1, i, d), k[:, :, None], v[:, :, None])
    return out.reshape(b, h, i, d)


@heads(**GROUPED)
def gqa_rows_together(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, h, i, d = q.shape
    return attend(q.reshape(b, k.shape[1], -1, d), k, v).view(b, h, i, d)


@heads(**GROUPED)
def gqa_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


@heads(k="b g j d", v="b g j d", head="h: head")
def gqa_by_index(q: Tensor, k: Tensor, v: Tensor, head: Tensor) -> Tensor:
    return attend(q, k[:, head], v[:, head])


@heads(
    q="b h i d", k="b j c", v=None, q_rope="b h i e", k_rope="b j e",
    up_k="h d c: small", up_v="h d c: small", sizes={"c": 40, "e": 8}, kernels=3,
)  # fmt: skip
def latent_expanded(q: Tensor, k: Tensor, q_rope: Tensor, k_rope: Tensor, up_k: Tensor, up_v: Tensor) -> Tensor:
    keys, values = torch.einsum("bjc,hdc->bhjd", k, up_k), torch.einsum("bjc,hdc->bhjd", k, up_v)
    shared = k_rope[:, None].expand(-1, q.shape[1], -1, -1)
    return attend(torch.cat([q, q_rope], -1), torch.cat([keys, shared], -1), values)


@heads(k="b j d", v=None, q_rope="b h i e", k_rope="b j e", sizes={"e": 8})
def latent_absorbed(q: Tensor, k: Tensor, q_rope: Tensor, k_rope: Tensor) -> Tensor:
    scores = torch.einsum("bhid,bjd->bhij", q, k) + torch.einsum("bhie,bje->bhij", q_rope, k_rope)
    return torch.einsum("bhij,bjd->bhid", (scores * 0.2).softmax(-1), k)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight


@heads(w_q="d", w_k="d", kernels=3)
def qk_norm(q: Tensor, k: Tensor, v: Tensor, w_q: Tensor, w_k: Tensor) -> Tensor:
    return attend(rms(q, w_q), rms(k, w_k), v)


@heads(w_q="d", w_k="d", kernels=3)
def qk_layer_norm(q: Tensor, k: Tensor, v: Tensor, w_q: Tensor, w_k: Tensor) -> Tensor:
    return attend(F.layer_norm(q, q.shape[-1:], w_q), F.layer_norm(k, k.shape[-1:], w_k), v)


@heads(scale="h 1 1: small", kernels=3)
def cosine(q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    return (scores * scale.clamp(max=math.log(100)).exp()).softmax(-1) @ v


@heads(square=True, kernels=3)
def rotary(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def rotate(x: Tensor) -> Tensor:
        n, d = x.shape[-2:]
        frequency = 1e4 ** (-torch.arange(0, d, 2, device=x.device).float() / d)
        angle = torch.arange(n, device=x.device)[:, None] * torch.cat([frequency, frequency])
        left, right = x.chunk(2, -1)
        return (x * angle.cos() + torch.cat([-right, left], -1) * angle.sin()).to(x.dtype)

    return attend(rotate(q), rotate(k), v)
