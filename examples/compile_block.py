"""Compile a transformer block written the way a paper writes it, and check the answer.

The block computes attention and the feed-forward layer side by side (PaLM), with a linear position bias (ALiBi) and a
GELU-gated feed-forward layer (GEGLU). Nothing in it is written for a compiler: the scores are an ordinary matrix.

    python examples/compile_block.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

import rooftile
from rooftile.checking import check


class ParallelBlock(nn.Module):
    """``x + attention(norm(x)) + feed_forward(norm(x))`` for ``x[batch, length, width]``."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.gate_up = nn.Linear(width, 8 * width)
        self.attention_out = nn.Linear(width, width)
        self.down = nn.Linear(4 * width, width)

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        position = torch.arange(length, device=x.device)
        distance = position[:, None] - position[None, :]
        slope = 2.0 ** (-8.0 * torch.arange(1, self.heads + 1, device=x.device) / self.heads)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slope[:, None, None] * distance
        scores = scores.masked_fill(distance < 0, float("-inf"))
        mixed = scores.softmax(-1) @ v
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))

    def feed_forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.gelu(gate) * up)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        return x + self.attention(normal) + self.feed_forward(normal)


def main() -> None:
    torch.manual_seed(0)
    block = ParallelBlock().eval()
    x = torch.randn(2, 20, 64)

    fast = rooftile.compile(block)
    y = fast(x)  # the first call compiles
    assert torch.allclose(y, block(x), atol=1e-5)

    # How far both are from the same block computed in float64. This is what Rooftile promises: no farther than eager,
    # up to a tenth.
    (accuracy,) = check(fast, block, (x,))
    print(accuracy)
    assert accuracy.kept

    # What was done: the kernels, the decisions with their reasons, the bytes moved.
    report = rooftile.explain(block, x)
    print(report)
    assert all(kernel.kind == "triton" for kernel in report.kernels)


if __name__ == "__main__":
    main()
