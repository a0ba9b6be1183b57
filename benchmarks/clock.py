"""Time and memory of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from rooftile.runtime.tuning.clocks import gpu_milliseconds

_L2_AND_MORE = 256 * 2**20  # bytes read between calls, so that nothing is found in cache
_COPIED = 2**30  # bytes of the copy by which bandwidth is measured
_CALLS_IN_GRAPH = 8
_REPLAYS = 20
_WARM_UP = 5  # rounds that are not counted: a GPU that was idle takes a while to reach its clock
_CYCLES_OF_MICROSECOND = 2000  # of a GPU at its highest clock
_LEAD = 2  # times what the host takes for a call: how long the GPU waits for it


def milliseconds(call: Callable[[], object], device: str, repeats: int = 50) -> float:
    """The median time of a call with a cold L2 cache: the GPU's, or the host's where that takes longer; wall time on
    the CPU."""
    return _medians([call], device, repeats, lead_us=0)[0]


def gpu_milliseconds_in_turns(calls: Sequence[Callable[[], object]], device: str, repeats: int = 50) -> list[float]:
    """The median time that the GPU works for each call, with a cold L2 cache; wall time on the CPU.

    The calls take turns, in another order each time, so that a GPU whose clock rises after a pause, and falls while it
    multiplies, is the same for all. Before each the GPU waits, for all alike, until the slowest of them would have been
    submitted: what the host takes (``host_microseconds``) is not in it.
    """
    lead = 0.0 if device == "cpu" else _LEAD * max((host_microseconds(call, device, 5) for call in calls), default=0.0)
    return _medians(calls, device, repeats, lead)


def _medians(calls: Sequence[Callable[[], object]], device: str, repeats: int, lead_us: float) -> list[float]:
    if device == "cpu":
        return [median(_wall(call) for _ in range(max(3, repeats // 10))) * 1e3 for call in calls]
    flush = torch.zeros(_L2_AND_MORE // 4, dtype=torch.float32, device=device)

    def before() -> None:
        if lead_us:
            torch.cuda._sleep(int(lead_us * _CYCLES_OF_MICROSECOND))
        flush.sum()  # reading, since what is written would be on its way to memory during the call

    return [median(times[_WARM_UP:]) for times in gpu_milliseconds(calls, _WARM_UP + repeats, before)]


def replayed_milliseconds(calls: Sequence[Callable[[], object]], device: str) -> float:
    """The median GPU time of a call inside a CUDA graph, launching left out; wall time on the CPU.

    The calls do the same on different memory, which together must be larger than the L2 cache several times: each
    finds it filled by the one before.
    """
    if device == "cpu":
        return milliseconds(calls[0], device)
    graph, kept = as_graph(calls, _CALLS_IN_GRAPH)
    (times,) = gpu_milliseconds([graph.replay], _REPLAYS, before=lambda: None)
    del kept
    return median(times) / _CALLS_IN_GRAPH


def as_graph(calls: Sequence[Callable[[], object]], count: int = 1) -> tuple[torch.cuda.CUDAGraph, list[object]]:
    """A CUDA graph of ``count`` calls, which take turns, and their results, to be kept as long as it is replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        return graph, [calls[n % len(calls)]() for n in range(count)]


def copy_bandwidth(device: str) -> float:
    """Bytes read and written in a second by a large copy."""
    source = torch.zeros(_COPIED if device != "cpu" else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / (milliseconds(lambda: target.copy_(source), device, 20) * 1e-3)


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
