"""A file such as a user would name on the command line."""

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Sized(nn.Linear):
    def __init__(self, width: int) -> None:
        super().__init__(width, width)


model = Mlp()


def with_inputs() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Mlp(), (torch.randn(3, 16),)


def huge() -> nn.Module:
    return nn.Linear(8192, 2**28, bias=False, dtype=torch.bfloat16)  # 4 TiB


def without_values() -> nn.Module:
    with torch.device("meta"):
        return Mlp()


def inputs() -> tuple[Tensor, ...]:
    return (torch.randn(2, 5, 16),)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.T).softmax(-1)


def sorted_scores(q: Tensor) -> Tensor:
    return torch.msort(q) * 2


number = 3
