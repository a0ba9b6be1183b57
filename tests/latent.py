"""Multi-head latent attention as its paper writes it (DeepSeek-V2, 2024): keys and values are made from one small
latent for each token, which a cache holds instead of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.models import Built, RMSNorm, finish, hidden


def rotated(x: Tensor, positions: Tensor, in_turns: bool = False) -> Tensor:
    """Rotary positions, halves rotated, for ``x`` of shape ``[..., length, size]``, where what belongs together may lie
    ``in_turns``."""
    size = x.shape[-1]
    frequencies = 10000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    angles = positions[:, None] * frequencies
    if in_turns:
        (left, right), (cos, sin) = (x[..., ::2], x[..., 1::2]), (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)
    left, right = x.chunk(2, -1)
    angles = torch.cat((angles, angles), -1)
    return x * angles.cos().to(x.dtype) + torch.cat((-right, left), -1) * angles.sin().to(x.dtype)


class LatentAttention(nn.Module):
    """Causal attention of ``heads`` whose keys have ``size`` features made from a latent, and ``turned`` rotary ones
    that all heads share; the values have ``size``."""

    def __init__(self, width: int, heads: int, latent: int, size: int, turned: int, *, in_turns: bool = False) -> None:
        super().__init__()
        self.heads, self.size, self.turned, self.in_turns = heads, size, turned, in_turns
        self.query = nn.Linear(width, heads * (size + turned), bias=False)
        self.down = nn.Linear(width, latent + turned, bias=False)
        self.norm = RMSNorm(latent)
        self.up = nn.Linear(latent, heads * 2 * size, bias=False)
        self.out = nn.Linear(heads * size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        positions = torch.arange(length, device=x.device)
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        plain, turned = q.split((self.size, self.turned), -1)
        latent, shared = self.down(x).split((self.down.out_features - self.turned, self.turned), -1)
        shared = rotated(shared[:, None], positions, self.in_turns).expand(-1, self.heads, -1, -1)
        made = self.up(self.norm(latent)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = made.chunk(2, -1)
        q, k = torch.cat((plain, rotated(turned, positions, self.in_turns)), -1), torch.cat((k, shared), -1)
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(future, -math.inf)
        mixed = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


def latent_attention(
    batch: int = 2, length: int = 7, width: int = 64, heads: int = 4, latent: int = 24, size: int = 16, turned: int = 8,
    dtype: torch.dtype = torch.float32, device: str = "cpu",
) -> Built:  # fmt: skip
    """The attention of a layer, with its projections; attention itself is spelled out."""
    layer = LatentAttention(width, heads, latent, size, turned)
    return finish(layer, dtype, device, hidden(batch, length, width))
