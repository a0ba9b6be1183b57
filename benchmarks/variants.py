"""Attention over whole sequences, case by case: naive, and in FlexAttention's and SDPA's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from benchmarks import naive
from benchmarks.workload import MaskMod, Twin, Workload

LENGTH = 4096
POSITIONS = 4 * LENGTH  # in all rows of a batch together: a longer sequence makes a smaller batch
CAP = 30.0


@dataclass(frozen=True)
class Sizes:
    """``batch`` rows of ``heads`` heads over ``length`` positions; ``window`` and ``prefix`` in positions."""

    batch: int
    heads: int
    length: int
    head_size: int
    window: int
    prefix: int
    dtype: torch.dtype
    device: str


def _causal(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return i >= j


def _full_twin(_: Sizes) -> Twin:
    return Twin(sdpa={})


def _causal_twin(_: Sizes) -> Twin:
    return Twin(_causal, sdpa={"is_causal": True})


def _window_twin(s: Sizes) -> Twin:
    width = s.window
    return Twin(lambda b, h, i, j: (i >= j) & (i - j < width))


def _prefix_twin(s: Sizes) -> Twin:
    length = s.prefix
    return Twin(lambda b, h, i, j: (i >= j) | (j < length))


def _soft_cap_twin(_: Sizes) -> Twin:
    return Twin(_causal, lambda score, b, h, i, j: CAP * torch.tanh(score / CAP))


def _alibi_twin(_: Sizes, slopes: Tensor) -> Twin:
    return Twin(_causal, lambda score, b, h, i, j: score + slopes[h] * (j - i))


def _documents_twin(_: Sizes, document: Tensor) -> Twin:
    return Twin(lambda b, h, i, j: (i >= j) & (document[b, i] == document[b, j]))


def _t5_twin(s: Sizes, table: Tensor) -> Twin:
    """The bias by head and distance, as one who knows FlexAttention prepares it."""
    by_distance = table[naive.t5_bucket(torch.arange(s.length, device=s.device))].T.contiguous()
    return Twin(_causal, lambda score, b, h, i, j: score + by_distance[h, (i - j).clamp(min=0)])


def _additive_twin(_: Sizes, mask: Tensor) -> Twin:
    of_pair = mask[0, 0]
    return Twin(None, lambda score, b, h, i, j: score + of_pair[i, j], sdpa={"attn_mask": mask})


def _slopes(s: Sizes) -> Tensor:
    return 2.0 ** (-8.0 / s.heads * torch.arange(1, s.heads + 1))


def _documents(s: Sizes) -> Tensor:
    """Eight documents in each row, cut at random."""
    cuts = torch.randint(1, s.length, (s.batch, 7), generator=_generator()).sort(1).values
    return torch.searchsorted(cuts, torch.arange(s.length).repeat(s.batch, 1), right=True)


def _table(s: Sizes) -> Tensor:
    return torch.randn(naive.BUCKETS, s.heads, generator=_generator()).to(s.dtype)


def _mask(s: Sizes) -> Tensor:
    """Some bias at every pair, and one pair in eight hidden at random."""
    shape, generator = (1, 1, s.length, s.length), _generator()
    hidden = torch.rand(shape, generator=generator) < 1 / 8
    return torch.randn(shape, generator=generator).masked_fill(hidden, float("-inf")).to(s.dtype)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@dataclass(frozen=True)
class Extra:
    """An input beside queries, keys and values, and the letters of its axes."""

    make: Callable[[Sizes], Tensor]
    axes: str


Model: TypeAlias = Callable[[Sizes], nn.Module]


@dataclass(frozen=True)
class Variant:
    """A way to attend. ``twin`` takes the sizes and, where there is one, the extra input."""

    name: str
    title: str
    model: Model
    twin: Callable[..., Twin]
    extra: Extra | None = None
    head_size: int = 128

    def sizes(self, device: str, length: int) -> Sizes:
        """A GPU gets bf16 and 16 heads; the CPU fp32, two small heads and windows that fit a short sequence."""
        if device == "cpu":
            return Sizes(2, 2, length, self.head_size // 8, length // 4, length // 3, torch.float32, device)
        return Sizes(max(1, POSITIONS // length), 16, length, self.head_size, 1024, 1500, torch.bfloat16, device)

    def workload(self, device: str, length: int) -> Workload:
        """The variant on random inputs."""
        s = self.sizes(device, length)
        torch.manual_seed(1)
        shape = (s.batch, s.heads, s.length, s.head_size)
        qkv = [torch.randn(shape, dtype=s.dtype, device=device) for _ in range(3)]
        extras = [self.extra.make(s).to(device)] if self.extra else []
        twin = self.twin(s, *extras)
        return Workload(
            model=self.model(s).to(device),
            inputs=(*qkv, *extras),
            axes=(*("bhtd",) * 3, *((self.extra.axes,) if self.extra else ())),
            result_axes="bhtd",
            checked={"b": [-1], "h": [0, -1] if length <= LENGTH else [-1]},
            flops=4.0 * s.head_size * s.heads * visible_pairs(twin.mask, s),
            bytes=4 * qkv[0].numel() * qkv[0].element_size(),
            twin=twin,
        )


def visible_pairs(mask: MaskMod | None, s: Sizes) -> int:
    """Over all rows of the batch, how many pairs of a query and a key the mask leaves."""
    if mask is None:
        return s.batch * s.length**2
    positions = torch.arange(s.length, device=s.device)
    zero = torch.zeros((), dtype=torch.int64, device=s.device)
    rows = (mask(zero + b, zero, positions[:, None], positions[None, :]) for b in range(s.batch))
    return sum(int(row.sum()) for row in rows)


def _plain(model: Callable[[], nn.Module]) -> Model:
    return lambda _: model()


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("full", "full", _plain(naive.Full), _full_twin),
        Variant("causal", "causal", _plain(naive.causal), _causal_twin),
        Variant("alibi", "ALiBi", _plain(naive.ALiBi), _alibi_twin, Extra(_slopes, "h")),
        Variant("soft-cap", "soft cap", lambda _: naive.SoftCap(CAP), _soft_cap_twin),
        Variant("window", "sliding window 1024", lambda s: naive.window(s.window), _window_twin),
        Variant("prefix", "prefix 1500", lambda s: naive.prefix(s.prefix), _prefix_twin),
        Variant("documents", "8 documents", _plain(naive.Documents), _documents_twin, Extra(_documents, "bt")),
        Variant("t5", "T5 relative bias", _plain(naive.T5), _t5_twin, Extra(_table, "nh")),
        Variant("additive", "additive mask", _plain(naive.Additive), _additive_twin, Extra(_mask, "xxij")),
        Variant("full-d64", "full", _plain(naive.Full), _full_twin, head_size=64),
        Variant("causal-d64", "causal", _plain(naive.causal), _causal_twin, head_size=64),
    )
}
