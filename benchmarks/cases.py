"""What is measured: real model code at real sizes, and the same at sizes that a CPU can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tests import models
from tests.experts import sorted_experts
from tests.latent import latent_attention


@dataclass(frozen=True)
class Case:
    """A model builder of ``tests.models`` and its arguments; ``small`` replaces some of them on the CPU.
    ``weights_bound``: so few tokens that what takes its time is to read all weights once."""

    name: str
    title: str
    build: Callable[..., models.Built]
    sizes: Mapping[str, Any]
    small: Mapping[str, Any]
    weights_bound: bool = False

    def built(self, device: str) -> models.Built:
        """The model and its inputs on ``device``: bf16 at full size on a GPU, fp32 and small on the CPU."""
        if device == "cpu":
            return self.build(**{**self.sizes, **self.small}, dtype=torch.float32, device=device)
        return self.build(**self.sizes, dtype=torch.bfloat16, device=device)


_LLAMA = {"batch": 1, "length": 2048, "width": 4096, "heads": 32, "kv_heads": 8, "inner": 14336}
_LLAMA_SMALL = {"length": 32, "width": 64, "heads": 4, "kv_heads": 2, "inner": 128}
_LONG = {**_LLAMA, "length": 4096}
_GPT2 = {"batch": 4, "length": 1024, "width": 1600, "heads": 25}
_GPT2_SMALL = {"batch": 1, "length": 32, "width": 64, "heads": 4}
_GPT = {"batch": 8, "length": 2048, "width": 2048, "heads": 16, "attention": "eager"}
_OLMOE = {"tokens": 8192, "width": 2048, "inner": 1024, "count": 64, "chosen": 8}
_MIXTRAL = {"tokens": 4096, "width": 4096, "inner": 14336, "count": 8, "chosen": 2}
_EXPERTS_SMALL = {"tokens": 10, "width": 32, "inner": 16, "count": 4, "chosen": 2}
_LATENT = {"batch": 4, "length": 4096, "width": 2048, "heads": 16, "latent": 512, "size": 128, "turned": 64}
_LATENT_SMALL = {"batch": 2, "length": 32, "width": 64, "heads": 4, "latent": 24, "size": 16, "turned": 8}
_SWIGLU = {"batch": 4, "length": 2048, "width": 4096, "inner": 14336}
_SWIGLU_SMALL = {"batch": 2, "length": 16, "width": 64, "inner": 128}


def _llama(name: str, title: str, sizes: Mapping[str, Any], small: Mapping[str, Any] = _LLAMA_SMALL) -> Case:
    return Case(name, f"Llama-8B layer, {title}", models.llama_layer, sizes, small, sizes["length"] == 1)


def _experts(name: str, title: str, sizes: Mapping[str, Any]) -> Case:
    return Case(name, f"{title}, {sizes['tokens']} tokens", sorted_experts, sizes, _EXPERTS_SMALL)


CASES = {
    case.name: case
    for case in (
        _llama("llama-8b", "1 x 2048", _LLAMA),
        _llama("llama-8b-spelled", "1 x 2048, attention spelled out", {**_LLAMA, "attention": "eager"}),
        _llama("llama-8b-4k", "1 x 4096", _LONG),
        _llama("llama-8b-4k-spelled", "1 x 4096, attention spelled out", {**_LONG, "attention": "eager"}),
        _llama("llama-8b-16x1", "16 x 1", {**_LLAMA, "batch": 16, "length": 1}, {**_LLAMA_SMALL, "length": 1}),
        _llama("llama-8b-1x1", "1 x 1", {**_LLAMA, "length": 1}, {**_LLAMA_SMALL, "length": 1}),
        Case("gpt2-xl", "GPT-2 XL block, 4 x 1024", models.gpt2_block, _GPT2, _GPT2_SMALL),
        Case("gpt", "GPT block d2048 h16, 8 x 2048, attention spelled out", models.gpt2_block, _GPT, _GPT2_SMALL),
        Case("swiglu", "SwiGLU FFN, 8192 x 4096 x 14336", models.gated_feed_forward, _SWIGLU, _SWIGLU_SMALL),
        Case("latent", "Latent attention, 4 x 4096, spelled out", latent_attention, _LATENT, _LATENT_SMALL),
        _experts("olmoe", "8 of OLMoE's 64 experts", _OLMOE),
        _experts("mixtral", "2 of Mixtral's 8 experts", _MIXTRAL),
        *(_experts(f"olmoe-{n}", "8 of OLMoE's 64 experts", {**_OLMOE, "tokens": n}) for n in (1, 16, 64)),
    )
}
