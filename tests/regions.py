"""Regions of real graphs with the model's first schedules, for tests of schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rooftile.compilation import Compilation
from rooftile.config import CompileOptions
from rooftile.ir.core import Op
from rooftile.report.explaining import compile_afresh


def compiled(model: Callable[..., Any], inputs: Sequence[torch.Tensor], target: str = "cpu") -> Compilation:
    """The one graph of a model."""
    with torch.no_grad():
        (compilation,), _ = compile_afresh(model, inputs, {}, CompileOptions(target=target, dynamic=False))
    return compilation


def regions(model: Callable[..., Any], inputs: Sequence[torch.Tensor], target: str = "cpu") -> list[Op]:
    """The region ops of a model's graph, lowered."""
    return [op for op in compiled(model, inputs, target).graph.ops if op.name == "region"]


def matmul(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A product with an epilogue."""
    return torch.relu(x @ w)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One head after another."""
    return (q @ k.transpose(-1, -2) / 8).softmax(-1) @ v


def norm(x: torch.Tensor) -> torch.Tensor:
    """Rows divided by their norms."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A tensor without values."""
    return torch.empty(shape, dtype=dtype, device="meta")
