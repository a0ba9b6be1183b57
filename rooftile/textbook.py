"""A Llama-style block as a textbook would write it: what `rooftile demo` compiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """The sizes of the block and of its input ``[batch, length, width]``."""

    batch: int
    length: int
    width: int
    heads: int
    groups: int
    """Key and value heads; each serves ``heads / groups`` query heads."""
    hidden: int
    dtype: torch.dtype


ON_GPU = Sizes(batch=1, length=2048, width=4096, heads=32, groups=8, hidden=14336, dtype=torch.bfloat16)
ON_CPU = Sizes(batch=1, length=32, width=64, heads=4, groups=2, hidden=128, dtype=torch.float32)


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * (wide * scale).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: the halves of each head's ``x[b, h, t, d]`` as real and imaginary parts."""
    real, imaginary = x.chunk(2, dim=-1)
    return torch.cat([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)


class Attention(nn.Module):
    """Causal attention in which a group of query heads shares one key and value head."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.groups = sizes.heads, sizes.groups
        self.head_size = sizes.width // sizes.heads
        self.query = nn.Linear(sizes.width, sizes.heads * self.head_size, bias=False)
        self.key = nn.Linear(sizes.width, sizes.groups * self.head_size, bias=False)
        self.value = nn.Linear(sizes.width, sizes.groups * self.head_size, bias=False)
        self.out = nn.Linear(sizes.heads * self.head_size, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.query(x).view(batch, length, self.heads, self.head_size).transpose(1, 2)
        k = self.key(x).view(batch, length, self.groups, self.head_size).transpose(1, 2)
        v = self.value(x).view(batch, length, self.groups, self.head_size).transpose(1, 2)
        half = self.head_size // 2
        frequency = 10000.0 ** (-torch.arange(half, device=x.device) / half)
        angle = torch.arange(length, device=x.device)[:, None] * frequency
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(self.heads // self.groups, dim=1)
        v = v.repeat_interleave(self.heads // self.groups, dim=1)
        scores = q @ k.transpose(-1, -2) / self.head_size**0.5
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, float("-inf")).float().softmax(-1).to(x.dtype)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(batch, length, -1))
        return mixed


class SwiGLU(nn.Module):
    """The feed-forward layer whose gate is a SiLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(nn.functional.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a residual."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(sizes.width)
        self.attention = Attention(sizes)
        self.ffn_norm = RMSNorm(sizes.width)
        self.ffn = SwiGLU(sizes.width, sizes.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        x = x + self.ffn(self.ffn_norm(x))
        return x


def block_and_input(sizes: Sizes, device: torch.device) -> tuple[Block, Tensor]:
    """A block with random weights, and an input for it; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = Block(sizes)
    x = torch.randn(sizes.batch, sizes.length, sizes.width, generator=generator)
    return block.to(device, sizes.dtype).eval(), x.to(device, sizes.dtype)
