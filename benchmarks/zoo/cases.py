"""What is run of a model: a forward pass, one with padding, lengths that change, and decoding with a static cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, EncoderDecoderCache, StaticCache

from benchmarks.zoo.architectures import Architecture

Call = Callable[..., Any]


DRAWS = 5  # of inputs, over which the errors of models of full size are taken


def inputs(
    of: Architecture, model: nn.Module, batch: int, length: int, device: str = "cpu", draw: int = 0
) -> dict[str, Tensor]:
    """Random tokens or images for a forward pass without a cache; each ``draw`` gives others."""
    generator = torch.Generator().manual_seed(length + (draw << 20))

    def tokens(columns: int) -> Tensor:
        return torch.randint(1, model.config.vocab_size, (batch, columns), generator=generator).to(device)

    if of.kind == "image":
        size = model.config.image_size
        images = torch.randn(batch, 3, size, size, generator=generator)
        return {"pixel_values": images.to(device, model.dtype)}
    if of.kind == "encoder-decoder":
        return {"input_ids": tokens(length), "decoder_input_ids": tokens(max(1, length // 2))}
    return {"input_ids": tokens(length)}


def padded(of: Architecture, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``given`` with a mask that leaves out tokens of every row but the first: before the text where it is decoded,
    behind it elsewhere."""
    ids = given["input_ids"]
    mask = torch.ones_like(ids)
    for row in range(1, len(ids)):
        missing = min(2 * row + 1, ids.shape[1] - 1)
        mask[row, slice(missing) if of.kind == "decoder" else slice(-missing, None)] = 0
    return {**given, "attention_mask": mask}


def forward(of: Architecture, model: Call) -> Call:
    """The logits alone, computed without a cache."""
    options = {} if of.kind in ("image", "encoder") else {"use_cache": False}

    def call(**given: Tensor) -> Tensor:
        logits: Tensor = model(**given, **options).logits
        return logits

    return call


class Decoding:
    """Greedy decoding with a static cache of ``capacity`` positions: one prefill and then a token at a time.

    The cache is laid out by an uncompiled call, as transformers does it, and emptied again.
    """

    def __init__(self, of: Architecture, model: nn.Module, ids: Tensor, capacity: int) -> None:
        self._is_pair = of.kind == "encoder-decoder"
        self._first = ids[:, :1] if self._is_pair else ids
        self._given: dict[str, Any] = {"use_cache": True}
        cache: Cache = StaticCache(config=model.config, max_cache_len=capacity)
        if self._is_pair:
            self._given["encoder_outputs"] = model.get_encoder()(ids)
            cache = EncoderDecoderCache(cache, StaticCache(config=model.config, max_cache_len=ids.shape[1]))
        self._given["past_key_values"] = cache
        if of.masks_cache:
            self._given["attention_mask"] = ids.new_ones(len(ids), capacity)
        self._step(model, self._first)
        cache.reset()

    def run(self, model: Call, steps: int) -> Tensor:
        """The ``steps`` tokens that follow, for each row."""
        found = [self._step(model, self._first)]
        while len(found) < steps:
            found.append(self._step(model, found[-1]))
        return torch.cat(found, dim=1)

    def _step(self, model: Call, ids: Tensor) -> Tensor:
        name = "decoder_input_ids" if self._is_pair else "input_ids"
        logits: Tensor = model(**{name: ids}, **self._given).logits
        return logits[:, -1:].argmax(-1)
