"""Time and memory of a call."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

_L2_AND_MORE = 256 * 2**20  # bytes written between calls, so that nothing is found in cache


def milliseconds(call: Callable[[], object], device: str, repeats: int = 50) -> float:
    """The median time of a call: GPU time with a cold L2 cache, or wall time on the CPU."""
    if device == "cpu":
        return median(_wall(call) for _ in range(max(3, repeats // 10))) * 1e3
    for _ in range(3):
        call()
    flush = torch.empty(_L2_AND_MORE, dtype=torch.uint8, device=device)
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in events:
        flush.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return median(start.elapsed_time(end) for start, end in events)


def _wall(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def seconds(call: Callable[[], object], device: str) -> float:
    """The wall time of one call, until the GPU has finished."""
    start = perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return perf_counter() - start


def host_microseconds(call: Callable[[], object], device: str, repeats: int = 20) -> float:
    """How long the calling thread is busy with a call, the GPU being idle."""
    spent = []
    for _ in range(repeats):
        if device != "cpu":
            torch.cuda.synchronize()
        spent.append(_wall(call))
    return median(spent) * 1e6


def peak_bytes(call: Callable[[], object], device: str) -> int | None:
    """What a call allocates at the most beside what is there before it; None on the CPU."""
    if device == "cpu":
        return None
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
