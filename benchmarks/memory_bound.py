"""Work that should cost no more than moving its bytes: decoding over a cache, softmax, cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import naive
from benchmarks.workload import Workload


@dataclass(frozen=True)
class MemoryBound:
    """A case, and how it is made on a device: small on the CPU."""

    name: str
    title: str
    make: Callable[[str], Workload]

    def workload(self, device: str, length: int) -> Workload:
        """The case on random inputs; ``length`` is for attention over whole sequences and changes nothing here."""
        torch.manual_seed(1)
        return self.make(device)


def _decode(batch: int, cache: int) -> Callable[[str], Workload]:
    def make(device: str) -> Workload:
        small = device == "cpu"
        length, head_size = (64, 16) if small else (cache, 128)
        heads, groups = (4, 2) if small else (32, 8)
        rows = min(batch, 2) if small else batch
        q = _random(device, rows, heads, 1, head_size)
        k, v = (_random(device, rows, groups, length, head_size) for _ in range(2))
        axes = ("bhtd", "bgtd", "bgtd")
        return _workload(naive.GroupedDecode(), (q, k, v), axes, "bhtd", q.nbytes, {"b": [-1]})

    return make


def _latent_decode(batch: int, cache: int) -> Callable[[str], Workload]:
    """With the sizes of DeepSeek-V2-Lite: 16 heads, latents of 512."""

    def make(device: str) -> Workload:
        small = device == "cpu"
        rows, heads, length = (min(batch, 2), 4, 64) if small else (batch, 16, cache)
        latent, size, rotated = (48, 16, 8) if small else (512, 128, 64)
        q = _random(device, rows, heads, 1, size + rotated)
        latents, rotary = (_random(device, rows, length, n) for n in (latent, rotated))
        up = _random(device, heads * 2 * size, latent) * latent**-0.5
        axes = ("bhtd", "bsc", "bsr", "nc")
        result_bytes = rows * heads * size * q.element_size()
        return _workload(naive.LatentDecode(), (q, latents, rotary, up), axes, "bhtd", result_bytes, {"b": [-1]})

    return make


def _softmax(device: str) -> Workload:
    n = 64 if device == "cpu" else 8192
    x = _random(device, n, n)
    return _workload(naive.Softmax(), (x,), ("nd",), "nd", x.nbytes, {"n": range(0, n, 8)})


def _cross_entropy(device: str) -> Workload:
    n, vocabulary = (16, 300) if device == "cpu" else (4096, 128256)
    targets = torch.randint(vocabulary, (n,), device=device)
    return _workload(naive.CrossEntropy(), (_random(device, n, vocabulary), targets), ("nv", "n"), "", 4, {})


def _workload(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    axes: tuple[str, ...],
    result_axes: str,
    result_bytes: int,
    checked: Mapping[str, range | list[int]],
) -> Workload:
    moved = sum(x.nbytes for x in inputs) + result_bytes
    return Workload(model, inputs, axes, result_axes, checked, bytes=moved)


def _random(device: str, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float32 if device == "cpu" else torch.bfloat16, device=device)


MEMORY_BOUND: Mapping[str, MemoryBound] = {
    case.name: case
    for case in (
        MemoryBound("decode-1x32k", "decode, 32 heads in 8 groups, batch 1, cache 32768", _decode(1, 32768)),
        MemoryBound("decode-32x8k", "decode, 32 heads in 8 groups, batch 32, cache 8192", _decode(32, 8192)),
        MemoryBound("latent-32x8k", "decode, 16 heads, latents of 512, batch 32, cache 8192", _latent_decode(32, 8192)),
        MemoryBound("softmax", "softmax 8192 x 8192", _softmax),
        MemoryBound("cross-entropy", "cross-entropy 4096 x 128256", _cross_entropy),
    )
}
