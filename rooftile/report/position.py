"""Where a kernel stands under the roofline: what bounds it, and what the cost model expects of it."""

from __future__ import annotations

from collections.abc import Mapping

from rooftile.ir.core import Graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.space import space_of
from rooftile.report.accounting import Work, known
from rooftile.report.data import Bound, Position, TargetRow
from rooftile.target import Target


def position(work: Work, estimate_us: float | None, target: Target, sizes: Mapping[str, int]) -> Position | None:
    """The position of a kernel that does this ``work``; None where that depends on a size that isn't known."""
    moved, dots, other = (known(size, sizes) for size in (work.bytes, work.matmul_flops, work.scalar_flops))
    if not isinstance(moved, int) or not isinstance(dots, int) or not isinstance(other, int):
        return None
    rate = target.matmul_rate(work.dtype)
    least: dict[Bound, float] = {
        "memory": moved / target.bandwidth * 1e6,
        "contractions": dots / rate * 1e6,
        "arithmetic": other / target.scalar_flops * 1e6,
        "launch": target.launch_seconds * 1e6,
    }
    return Position(
        intensity=(dots + other) / max(1, moved),
        ridge=rate / target.bandwidth,
        dtype=work.dtype,
        bound=max(least, key=least.__getitem__),
        memory_us=least["memory"],
        contractions_us=least["contractions"],
        arithmetic_us=least["arithmetic"],
        launch_us=least["launch"],
        estimate_us=estimate_us,
    )


def estimate(body: Graph, schedule: Schedule, target: Target, done: float = 1.0) -> float:
    """What the region is expected to take, in microseconds: the price by which fusion decided, which counts steps that
    masks leave out, for the share of its arithmetic that is ``done``. (The estimate of a schedule's tiles is there to
    order schedules, and no prediction.)"""
    price = cost(compose(body, space_of(schedule)), target)
    busy = price.seconds - target.launch_seconds
    return (target.launch_seconds + max(busy * done, min(busy, price.bytes / target.bandwidth))) * 1e6


def target_row(target: Target) -> TargetRow:
    """The device's numbers for the reader."""
    return TargetRow(
        target.name, target.bandwidth, dict(target.flops), target.scalar_flops, target.launch_seconds * 1e6
    )
