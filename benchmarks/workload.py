"""One piece of work at one size: a model written naively, its inputs, and what a rival needs to do the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

# (batch, head, query's position, key's position) -> whether the query sees the key
MaskMod: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# (score, and the same) -> the score to use
ScoreMod: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Twin:
    """The same attention for libraries: what FlexAttention is told, and the arguments of SDPA where it can do it."""

    mask: MaskMod | None = None
    score: ScoreMod | None = None
    sdpa: Mapping[str, bool | Tensor] | None = None


@dataclass(frozen=True)
class Workload:
    """``model(*inputs)``.

    ``axes`` has a letter for each dimension of each input, ``result_axes`` for the result's. ``checked`` says at which
    positions of which axes results are compared; the model run on these alone gives the same there. ``flops`` counts
    what no mask hides, ``bytes`` every input and the result once. ``twin`` is there for attention over whole sequences;
    without it the work is bound by memory.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    axes: tuple[str, ...]
    result_axes: str
    checked: Mapping[str, Sequence[int]] = field(default_factory=dict)
    flops: float = 0.0
    bytes: int = 0
    twin: Twin | None = None

    def checked_inputs(self) -> tuple[Tensor, ...]:
        """The inputs at the positions that are compared."""
        return tuple(self._picked(x, axes) for x, axes in zip(self.inputs, self.axes, strict=True))

    def checked_result(self, result: Tensor) -> Tensor:
        """A result at the positions that are compared."""
        return self._picked(result, self.result_axes)

    def _picked(self, x: Tensor, axes: str) -> Tensor:
        for dim, letter in enumerate(axes):
            if letter in self.checked:
                positions = torch.tensor([p % x.shape[dim] for p in self.checked[letter]], device=x.device)
                x = x.index_select(dim, positions)
        return x
