"""A mixture of experts as models spell it: rows sorted by expert, products over groups of rows, put back and summed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models import Built


class SortedExperts(nn.Module):
    """A router that chooses ``chosen`` of ``count`` experts for each token, each SwiGLU with matrices of its own.

    The weights lie as transformers' do.
    """

    def __init__(self, width: int, inner: int, count: int, chosen: int, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        made = {"dtype": dtype, "device": device}
        self.count, self.chosen = count, chosen
        self.router = nn.Linear(width, count, bias=False, **made)
        self.up = nn.Parameter(torch.randn(count, 2 * inner, width, **made) * width**-0.5)
        self.down = nn.Parameter(torch.randn(count, width, inner, **made) * inner**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights, experts = self.router(x).softmax(-1, dtype=torch.float32).topk(self.chosen)
        numbers, order = experts.flatten().sort()
        # Counted as floats on the CPU, as transformers does: torch has no other there.
        counted = numbers.float() if x.device.type == "cpu" else numbers.int()
        ends = torch.histc(counted, bins=self.count, min=0, max=self.count - 1).cumsum(0, dtype=torch.int32)
        gate, up = torch._grouped_mm(x[order // self.chosen], self.up.transpose(-2, -1), ends).chunk(2, -1)
        rows = torch._grouped_mm(F.silu(gate) * up, self.down.transpose(-2, -1), ends)
        rows = rows * weights.to(x.dtype).flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=x.device)
        return rows[back].view(len(x), self.chosen, -1).sum(1)


def sorted_experts(
    tokens: int = 12, width: int = 32, inner: int = 16, count: int = 6, chosen: int = 2,
    dtype: torch.dtype = torch.bfloat16, device: str = "cpu",
) -> Built:  # fmt: skip
    """The layer and its tokens; in bf16, whatever ``dtype``: torch traces grouped products of nothing else."""
    torch.manual_seed(0)
    model = SortedExperts(width, inner, count, chosen, torch.bfloat16, device)
    return model.eval(), (torch.randn(tokens, width, dtype=torch.bfloat16, device=device),)
