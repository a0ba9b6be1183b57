"""Attention as papers write it, in nine spellings; decoding with grouped heads and with latents; the two other sweeps
over long rows.

What differs between calls (slopes, tables, masks, document numbers) is an input. Queries, keys and values are
``[batch, heads, length, head size]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BUCKETS, FARTHEST = 32, 128  # of T5: how many buckets, and from which distance on all share the last one


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Each query's product with each key, scaled."""
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def mixed(scores: Tensor, v: Tensor) -> Tensor:
    """The values, mixed by the softmax of the scores."""
    return scores.float().softmax(-1).to(v.dtype) @ v


def rows_and_columns(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The queries' positions as a column, and the keys' as a row."""
    i = torch.arange(q.shape[-2], device=q.device)[:, None]
    return i, torch.arange(k.shape[-2], device=q.device)[None, :]


def t5_bucket(distance: Tensor) -> Tensor:
    """T5's bucket of how far back a key lies: one for each near distance, then ever wider ones."""
    near = BUCKETS // 2
    far = torch.log(distance.clamp(min=1).float() / near) / math.log(FARTHEST / near) * (BUCKETS - near)
    return torch.where(distance < near, distance.clamp(min=0), (near + far.long()).clamp(max=BUCKETS - 1))


class Full(nn.Module):
    """Every query sees every key."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return mixed(scores(q, k), v)


class Masked(nn.Module):
    """A query at ``i`` sees a key at ``j`` where ``hidden(i, j)`` does not hold."""

    def __init__(self, hidden: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i, j = rows_and_columns(q, k)
        return mixed(scores(q, k).masked_fill(self.hidden(i, j), -math.inf), v)


def causal() -> nn.Module:
    """A query sees what is not after it."""
    return Masked(lambda i, j: j > i)


def window(width: int) -> nn.Module:
    """A query sees itself and the ``width - 1`` keys before it."""
    return Masked(lambda i, j: (j > i) | (j <= i - width))


def prefix(length: int) -> nn.Module:
    """A query sees what is not after it, and the first ``length`` keys."""
    return Masked(lambda i, j: (j > i) & (j >= length))


class ALiBi(nn.Module):
    """Causal; the score falls with distance, by each head's own slope (Press and others, 2022)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
        i, j = rows_and_columns(q, k)
        return mixed((scores(q, k) + slopes[:, None, None] * (j - i)).masked_fill(j > i, -math.inf), v)


class SoftCap(nn.Module):
    """Causal; scores are bounded by a hyperbolic tangent, as in Gemma 2."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i, j = rows_and_columns(q, k)
        return mixed((self.cap * torch.tanh(scores(q, k) / self.cap)).masked_fill(j > i, -math.inf), v)


class Documents(nn.Module):
    """Causal inside each of several documents in one row; ``document[b, i]`` numbers them."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, document: Tensor) -> Tensor:
        i, j = rows_and_columns(q, k)
        hidden = (j > i) | (document[:, None, :, None] != document[:, None, None, :])
        return mixed(scores(q, k).masked_fill(hidden, -math.inf), v)


class T5(nn.Module):
    """Causal, with T5's relative bias: ``table[bucket, head]`` at the bucket of the distance."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        i, j = rows_and_columns(q, k)
        bias = F.embedding(t5_bucket(i - j), table).permute(2, 0, 1)
        return mixed((scores(q, k) + bias).masked_fill(j > i, -math.inf), v)


class Additive(nn.Module):
    """A mask that the caller made and that is added."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return mixed(scores(q, k) + mask, v)


class GroupedDecode(nn.Module):
    """New queries over a cache in which a key and value head serves several query heads."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        times = q.shape[1] // k.shape[1]
        return mixed(scores(q, k.repeat_interleave(times, 1)), v.repeat_interleave(times, 1))


class LatentDecode(nn.Module):
    """New queries over a cache of latents, from which ``up`` makes each head's values and the first part of its keys;
    the rotary part is the same for all heads (multi-head latent attention, DeepSeek-V2, 2024)."""

    def forward(self, q: Tensor, latents: Tensor, rotary: Tensor, up: Tensor) -> Tensor:
        heads, size = q.shape[1], q.shape[-1] - rotary.shape[-1]
        made = (latents @ up.T).unflatten(-1, (heads, -1)).transpose(1, 2)
        k, v = made.split((size, made.shape[-1] - size), -1)
        k = torch.cat((k, rotary[:, None].expand(-1, heads, -1, -1)), -1)
        return mixed(scores(q, k), v)


class Softmax(nn.Module):
    """The softmax of every row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class CrossEntropy(nn.Module):
    """The mean loss of logits ``[n, vocabulary]`` against the indices of the targets."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets)
