"""Who is compared: eager, torch.compile, Rooftile; each makes a callable of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

import rooftile

Make = Callable[[nn.Module], Callable[..., Any]]

CONTENDERS: Mapping[str, Make] = {
    "eager": lambda model: model,
    "torch.compile": lambda model: torch.compile(model),
    "torch.compile-graphs": lambda model: torch.compile(model, mode="reduce-overhead"),
    "max-autotune": lambda model: torch.compile(model, mode="max-autotune-no-cudagraphs"),
    "max-autotune-graphs": lambda model: torch.compile(model, mode="max-autotune"),
    "rooftile": lambda model: rooftile.compile(model),
    "rooftile-graphs": lambda model: rooftile.compile(model, mode="reduce-overhead"),
    "rooftile-tuned": lambda model: rooftile.compile(model, options={"autotune": "full", "library": False}),
    "rooftile-tuned-graphs": lambda model: rooftile.compile(model, mode="max-autotune", options={"library": False}),
    "rooftile-library": lambda model: rooftile.compile(model, options={"autotune": "full"}),
    "rooftile-library-graphs": lambda model: rooftile.compile(model, mode="max-autotune"),
}
DEFAULT = ("eager", "torch.compile", "rooftile")
