"""Masks in every style, with every fill, from every source."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.attention.variant import Table

masks = Table("mask")

FILLS = {"inf": lambda s: -math.inf, "min": lambda s: torch.finfo(s.dtype).min, "1e4": lambda s: -1e4}


def _filled(scores: Tensor, keep: Tensor, fill: float) -> Tensor:
    return scores.masked_fill(~keep, fill)


def _where(scores: Tensor, keep: Tensor, fill: float) -> Tensor:
    return torch.where(keep, scores, torch.full((), fill, dtype=scores.dtype, device=scores.device))


def _added(scores: Tensor, keep: Tensor, fill: float) -> Tensor:
    bias = torch.zeros(keep.shape, dtype=scores.dtype, device=scores.device).masked_fill(~keep, fill)
    return scores + bias


def _times(scores: Tensor, keep: Tensor, fill: float) -> Tensor:
    return scores + (1.0 - keep.to(scores.dtype)) * fill


STYLES = {"masked_fill": _filled, "where": _where, "added": _added, "one_minus": _times}


def scaled(q: Tensor, k: Tensor) -> Tensor:
    """The scores that are masked."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def causal(q: Tensor, k: Tensor) -> Tensor:
    """Which keys a query may see, aligned at the end."""
    i, j = q.shape[-2], k.shape[-2]
    return torch.arange(j, device=q.device) <= torch.arange(i, device=q.device)[:, None] + (j - i)


def masked(style: str, fill: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention under ``mask``, causal without one."""
    scores = scaled(q, k)
    keep = causal(q, k) if mask is None else mask
    return STYLES[style](scores, keep, FILLS[fill](scores)).softmax(-1) @ v


for style in STYLES:
    for fill in FILLS:
        if (style, fill) != ("one_minus", "inf"):
            masks.add(f"causal_{style}_{fill}", partial(masked, style, fill))
for style, fill in (("masked_fill", "inf"), ("where", "min"), ("added", "min"), ("one_minus", "1e4")):
    masks.add(f"given_{style}_{fill}", partial(masked, style, fill), mask="b 1 i j: bool with an empty row")
masks.add("given_2d", partial(masked, "masked_fill", "inf"), mask="i j: bool with an empty row")
masks.add("given_per_head", partial(masked, "where", "min"), mask="b h i j: bool with an empty row")
masks.add("padding_broadcast", partial(masked, "masked_fill", "inf"), mask="b 1 1 j: bool")


def with_bias(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """An additive mask, passed in."""
    return (scaled(q, k) + mask).softmax(-1).to(v.dtype) @ v


for fill in ("-inf", "-1e4"):
    masks.add(f"additive_2d_{fill}", with_bias, mask=f"i j: {fill}")
    masks.add(f"additive_4d_{fill}", with_bias, mask=f"b 1 i j: {fill}")
masks.add("additive_per_head", with_bias, mask="b h i j")
masks.add("additive_row", with_bias, mask="b 1 1 j")
masks.add("additive_fp32", with_bias, mask="b 1 i j: fp32")


@masks(mask="b j: 0 or 1")
def padding_of_ones(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    bias = (1.0 - mask[:, None, None, :]) * torch.finfo(q.dtype).min
    return (scaled(q, k) + bias).softmax(-1) @ v


@masks(lengths="b: length")
def lengths(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    keep = torch.arange(k.shape[-2], device=k.device) < lengths[:, None]
    return scaled(q, k).masked_fill(~keep[:, None, None], -math.inf).softmax(-1) @ v


@masks(documents="b i: document", square=True)
def documents(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    keep = (documents[:, :, None] == documents[:, None, :])[:, None] & causal(q, k)
    return scaled(q, k).masked_fill(~keep, torch.finfo(q.dtype).min).softmax(-1) @ v


@masks(square=True)
def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    apart = torch.arange(q.shape[-2], device=q.device)[:, None] - torch.arange(k.shape[-2], device=q.device)
    return torch.where((apart >= 0) & (apart < 7), scaled(q, k), -math.inf).softmax(-1) @ v


def positions(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the queries, as a column, and of the keys."""
    return torch.arange(q.shape[-2], device=q.device)[:, None], torch.arange(k.shape[-2], device=q.device)


@masks(square=True)
def prefix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i, j = positions(q, k)
    return scaled(q, k).masked_fill((j > i) & (j >= 11), -math.inf).softmax(-1) @ v


@masks(lengths="b: length", square=True)
def prefix_of_each(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    i, j = positions(q, k)
    keep = (j <= i) | (j < lengths[:, None, None, None])
    return torch.where(keep, scaled(q, k), torch.finfo(q.dtype).min).softmax(-1) @ v


@masks(square=True)
def window_and_global(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i, j = positions(q, k)
    keep = ((i - j).abs() < 5) | (j < 3) | (i < 3)
    return scaled(q, k).masked_fill(~keep, -math.inf).softmax(-1) @ v


@masks(square=True)
def chunked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i, j = positions(q, k)
    return scaled(q, k).masked_fill((i // 8 != j // 8) | (j > i), -1e4).softmax(-1) @ v


@masks(square=True)
def dilated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    i, j = positions(q, k)
    keep = ((i - j) % 4 == 0) & (j <= i) & (i - j < 16)
    return (scaled(q, k) + torch.where(keep, 0.0, -math.inf).to(q.dtype)).softmax(-1) @ v


@masks(lengths="b: length", square=True)
def causal_and_lengths(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    i, j = positions(q, k)
    keep = (j <= i) & (j < lengths[:, None, None, None])
    return scaled(q, k).masked_fill(~keep, torch.finfo(q.dtype).min).softmax(-1) @ v


@masks(square=True)
def tril(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keep = torch.tril(torch.ones(q.shape[-2], k.shape[-2], device=q.device))
    return scaled(q, k).masked_fill(keep == 0, -math.inf).softmax(-1) @ v


@masks(square=True)
def triu_of_full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    bias = torch.full((q.shape[-2], k.shape[-2]), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    return (scaled(q, k) + bias).softmax(-1) @ v


@masks(square=True)
def sdpa_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@masks(mask="b 1 i j: bool with an empty row")
def sdpa_bool(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@masks(mask="b h i j")
def sdpa_float(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)


@masks(mask="b 1 i j: bool")
def renormalised(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    weights = scaled(q, k).softmax(-1) * mask
    return (weights / weights.sum(-1, keepdim=True)) @ v


@masks(mask="b 1 i j: bool")
def renormalised_with_epsilon(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    weights = scaled(q, k).softmax(-1).masked_fill(~mask, 0.0)
    return (weights / (weights.sum(-1, keepdim=True) + 1e-9)) @ v


@masks(mask="b 1 i j: bool with an empty row")
def zeroed_after(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    weights = scaled(q, k).masked_fill(~mask, -1e4).softmax(-1)
    return weights.masked_fill(~mask, 0.0) @ v


@masks(mask="b 1 i j: bool with an empty row")
def multiplied_in(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = scaled(q, k)
    e = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    return (e / e.sum(-1, keepdim=True).clamp(min=1e-9)) @ v


@masks(mask="b 1 i j: bool with an empty row")
def empty_rows_to_zero(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    weights = scaled(q, k).masked_fill(~mask, -math.inf).softmax(-1)
    out = weights @ v
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)


@masks(square=True)
def scaled_after_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.mT).masked_fill(~causal(q, k), -math.inf) / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v
