"""What is measured: real model code at real sizes, and the same at sizes that a CPU can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tests import models


@dataclass(frozen=True)
class Case:
    """A model builder of ``tests.models`` and its arguments; ``small`` replaces some of them on the CPU."""

    name: str
    title: str
    build: Callable[..., models.Built]
    sizes: Mapping[str, Any]
    small: Mapping[str, Any]

    def built(self, device: str) -> models.Built:
        """The model and its inputs on ``device``: bf16 at full size on a GPU, fp32 and small on the CPU."""
        if device == "cpu":
            return self.build(**{**self.sizes, **self.small}, dtype=torch.float32, device=device)
        return self.build(**self.sizes, dtype=torch.bfloat16, device=device)


_LLAMA = {"batch": 1, "length": 2048, "width": 4096, "heads": 32, "kv_heads": 8, "inner": 14336}
_LLAMA_SMALL = {"length": 32, "width": 64, "heads": 4, "kv_heads": 2, "inner": 128}
_GPT2 = {"batch": 4, "length": 1024, "width": 1600, "heads": 25}
_GPT2_SMALL = {"batch": 1, "length": 32, "width": 64, "heads": 4}

CASES = {
    case.name: case
    for case in (
        Case("llama-8b", "Llama-8B layer, 1 x 2048", models.llama_layer, _LLAMA, _LLAMA_SMALL),
        Case("gpt2-xl", "GPT-2 XL block, 4 x 1024", models.gpt2_block, _GPT2, _GPT2_SMALL),
        Case(
            "llama-8b-spelled",
            "Llama-8B layer, 1 x 2048, attention spelled out",
            models.llama_layer,
            {**_LLAMA, "attention": "eager"},
            _LLAMA_SMALL,
        ),
    )
}
