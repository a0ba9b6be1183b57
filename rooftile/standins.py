"""What runs in a program's place where its kernels cannot: on another device than they are for, or where nothing is to
be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate
from rooftile.ir.substitution import evaluate as number


@dataclass(frozen=True)
class Evaluated:
    """A graph computed by the reference evaluator, op by op."""

    graph: Graph

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """The results, as tensors of their own."""
        with torch.no_grad(), tensors[0].device if tensors else torch.device("cpu"):
            results = evaluate(self.graph, [t.detach() for t in tensors], dict(sizes))
        return [torch.empty(r.shape, dtype=r.dtype, device=r.device).copy_(r) for r in results]


@dataclass(frozen=True)
class Shaped:
    """A graph on the meta device: results have a shape and a dtype, and nothing is computed."""

    graph: Graph

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """The results without their values."""
        return [
            torch.empty([number(s, sizes) for s in v.shape], dtype=v.dtype.torch, device="meta")
            for v in self.graph.outputs
        ]
