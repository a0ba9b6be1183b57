"""Arguments for any model's ``forward``, by what its parameters are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

_BATCH, _LENGTH, _ANSWER = 2, 12, 7
_SPECIAL = 28  # tokens at the vocabulary's end that may mean something, beside the first four
_SAMPLES = 4000  # of raw audio, a quarter of a second
_BINS = (
    "feature_projection_input_dim",
    "num_mel_bins",
    "feature_size",
    "input_feat_per_channel",
    "n_mels",
    "input_dim",
)
_TRIES = 12  # sets of shapes that are tried for one set of names


@dataclass(frozen=True)
class _Sizes:
    """What the configuration, or one of its parts, says about sizes."""

    config: PreTrainedConfig

    def __call__(self, *names: str, default: int) -> int:
        found = self.find(names)
        return default if found is None else int(max(found) if isinstance(found, (list, tuple)) else found)

    def find(self, names: tuple[str, ...]) -> Any:
        """The first attribute of one of these names that is a number or numbers."""
        for config in self._parts(self.config):
            for name in names:
                value = vars(config).get(name)
                if type(value) is int or (isinstance(value, (list, tuple)) and value and type(value[0]) is int):
                    return value
        return None

    def _parts(self, config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
        yield config
        for value in vars(config).values():
            if isinstance(value, PreTrainedConfig):
                yield from self._parts(value)

    def image(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        size = self.find(("image_size", "img_size"))
        height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size or 64,) * 2
        return self("num_channels", "in_channels", "in_chans", default=3), int(height), int(width)

    def patches(self) -> tuple[int, int]:
        """How many numbers a patch has, and how many of them make a square that may be merged."""
        channels, *_ = self.image()
        side, depth = self("patch_size", default=14), self("temporal_patch_size", default=1)
        return channels * depth * side**2, (2 * self("spatial_merge_size", default=1)) ** 2


def _tokens(length: int) -> Callable[[_Sizes], list[Tensor]]:
    def make(sizes: _Sizes) -> list[Tensor]:
        end = max(5, sizes("vocab_size", default=128) - _SPECIAL)
        ids = torch.randint(4, end, (_BATCH, length))
        books = sizes("num_codebooks", default=1)
        return [ids, torch.randint(4, end, (_BATCH, length, books)), torch.randint(4, end, (_BATCH, books, length))]

    return make


def _images(sizes: _Sizes) -> list[Tensor]:
    channels, height, width = sizes.image()
    numbers, squares = sizes.patches()
    images = torch.randn(_BATCH, channels, height, width)
    return [images, *_videos(sizes), images[:, None], torch.randn(squares, numbers)]


def _videos(sizes: _Sizes) -> list[Tensor]:
    frames = sizes("num_frames", "frames_per_clip", default=4)
    return [torch.randn(_BATCH, frames, *sizes.image())]


def _grid(sizes: _Sizes) -> list[Tensor]:
    side = round(sizes.patches()[1] ** 0.5)
    return [torch.tensor([[1, side, side]]), torch.tensor([[side, side]])]


def _patches(sizes: _Sizes) -> list[Tensor]:
    numbers, squares = sizes.patches()
    return [torch.randn(squares, numbers)]


def _sound(sizes: _Sizes) -> list[Tensor]:
    samples = torch.randn(_BATCH, _SAMPLES)
    return [samples, samples[:, None], *_spectra(sizes), *_tokens(_LENGTH)(sizes)[:1]]


def _spectra(sizes: _Sizes) -> list[Tensor]:
    bins = sizes(*_BINS, default=80)
    positions = sizes("max_source_positions", "max_length", default=64)
    spectrum = torch.randn(_BATCH, bins, 2 * positions)
    halves = spectrum[:, :, :positions]
    return [spectrum, spectrum.mT.contiguous(), halves, halves.mT.contiguous(), halves.mT[:, None].contiguous()]


def _boxes(sizes: _Sizes) -> list[Tensor]:
    corner = torch.randint(0, 20, (_BATCH, _LENGTH, 2))
    return [torch.cat([corner, corner + 5], dim=-1)]


def _past(sizes: _Sizes) -> list[Tensor]:
    length = sizes("context_length", default=24)
    lags = sizes("lags_sequence", default=0)
    channels = sizes("num_input_channels", "input_size", default=1)
    past = torch.randn(_BATCH, length + lags)
    return [past[..., None].expand(-1, -1, channels).contiguous(), past]


def _ones(sizes: _Sizes) -> list[Tensor]:
    return [torch.ones_like(x) for x in _past(sizes)]


# What a parameter of this name may be given: the first that the model takes.
_MADE: dict[str, Callable[[_Sizes], list[Tensor]]] = {
    "input_ids": _tokens(_LENGTH),
    "decoder_input_ids": _tokens(_ANSWER),
    "bbox": _boxes,
    "pixel_values": _images,
    "pixel_values_videos": _videos,
    "hidden_states": _patches,
    "grid_thw": _grid,
    "grid_hws": _grid,
    "image_grid_thw": _grid,
    "input_values": _sound,
    "input_features": _spectra,
    "past_values": _past,
    "past_observed_mask": _ones,
}
_SAID = {"use_cache": False}


def argument_sets(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Keyword arguments that ``model`` may take, those first that say most: all whose names are known, then the main
    ones and those that must be given.

    Raises:
        TypeError: a parameter without a default has a name that is not known.
    """
    taken = inspect.signature(model.forward).parameters
    own = {n: p for n, p in taken.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    needed = [n for n, p in own.items() if p.default is p.empty]
    if unknown := [n for n in needed if n not in _MADE]:
        raise TypeError(f"no rule makes its argument {unknown[0]}")
    main = [n for n in (model.main_input_name, "decoder_input_ids") if n in own and n in _MADE]
    sizes = _Sizes(model.config)
    said = {name: value for name, value in _SAID.items() if name in taken}
    for names in dict.fromkeys([tuple(n for n in own if n in _MADE), tuple(dict.fromkeys([*main, *needed]))]):
        torch.manual_seed(0)
        made = [_MADE[n](sizes) for n in names]
        for tensors in [*product(*made)][:_TRIES]:
            yield {**dict(zip(names, tensors, strict=True)), **said}
