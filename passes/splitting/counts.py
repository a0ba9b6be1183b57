"""Into how many parts a sweep is worth cutting: 1 where another kernel would cost more than it gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rooftile.ir.core import Graph, Op
from rooftile.ir.expr import Size
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.cost import cost, floor_seconds
from rooftile.passes.regions.forms import Unschedulable
from rooftile.passes.regions.parts import busy, partial_bytes, parts_for
from rooftile.passes.regions.space import space_of
from rooftile.passes.regions.sweeps import Sweeps
from rooftile.passes.schedules.choice import schedule_region
from rooftile.passes.schedules.estimate import programs, seconds
from rooftile.target import Target

COUNTS = (2, 4, 8, 16, 32)
EVEN = 16  # positions of which parts are multiples, so that wide loads stay aligned
LEAST_DEPTH = 256  # of a part of a product's sum: four steps of a loop that loads ahead
# A product whose estimate is within so much of its roofline has nothing to gain.
NEAR_ROOFLINE = 1.25


def parts_of_chain(body: Graph, sweeps: Sweeps, name: str, target: Target) -> int:
    """For reductions and chains of them, bound by memory: by the bytes, and by how many programs there are."""
    try:
        count = programs(schedule_region(body, target))
    except Unschedulable:
        return 1
    parts = parts_for(sweeps.access.axes[name], count, target)
    price = cost(compose(body), target).bytes
    whole = price / busy(count, target)
    split = (price + 2 * parts * partial_bytes(sweeps, name)) / busy(parts * count, target)
    return parts if (whole - split) / target.bandwidth > 2 * target.launch_seconds else 1


def parts_of_product(
    body: Graph, extent: Size, split: Callable[[int], Sequence[Op]], target: Target, beside: int
) -> int:
    """For contractions side by side: by the estimates of what ``split`` makes for a number of parts, which is nothing
    where the sum over ``extent`` can't be cut so. ``beside`` programs may share the launch of the whole."""
    whole, least = min(_seconds(body, target), _seconds(body, target, beside)), _roofline(body, target)
    # Parts and their merging take the roofline and another launch at the least, and are to gain two launches.
    if (
        target.kind == "cpu"
        or not isinstance(extent, int)
        or whole < max(NEAR_ROOFLINE * least, least + 3 * target.launch_seconds)
    ):
        return 1
    found = {1: whole}
    for count in COUNTS:
        if extent % (count * EVEN) or extent < count * LEAST_DEPTH or not (regions := split(count)):
            break
        found[count] = sum(_seconds(each.regions[0], target) for each in regions)
    best = min(found, key=lambda count: found[count])
    return best if whole - found[best] > 2 * target.launch_seconds else 1


def _seconds(body: Graph, target: Target, beside: int = 0) -> float:
    schedule = schedule_region(body, target)
    return seconds(schedule, compose(body, space_of(schedule)), target, beside)


def _roofline(body: Graph, target: Target) -> float:
    return floor_seconds([compose(body)], target) + target.launch_seconds
