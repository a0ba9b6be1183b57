"""What the roofline says of a schedule: the least time in which its programs, in their tiles, can do a region's work.

Finer than ``regions.cost``, which prices a region however it is tiled: here tiles decide how often an element is read,
how much of what is computed is padding, and how well the programs fill the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rooftile.ir.dtypes import F32
from rooftile.ir.schedule import SPREAD, AxisRole, Schedule
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.contractions import contractions, has_dot, loads_of_contractions, multiplied
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.ragged import segments
from rooftile.passes.regions.sizes import likely
from rooftile.passes.schedules.waves import waves
from rooftile.target import Target

LATENCY = 1.3e-6  # seconds from a load to its data while memory is busy: 30 KB are on their way to each multiprocessor
CACHE_LATENCY = 0.4e-6  # the same from the L2 cache
WARPS_PER_PROCESSOR = 64
# Warps that split fp32 numbers in two for tensor cores, which one multiprocessor needs to be busy: 512 x 1024 x 1024 in
# 128 tiles of four warps runs on an H200 at 36 TFLOP/s, 2048 cubed in 512 at 81.
WARPS_OF_SPLIT_PRODUCTS = 8
REGISTERS_PER_THREAD = 255


def seconds(schedule: Schedule, access: Access, target: Target, beside: int = 0) -> float:
    """The estimate for ``access``, composed over the schedule's axes; run-time sizes count as their likely values.

    ``beside`` programs like these share the launch.
    """
    busy = _busy(schedule, access, target, beside)
    return busy / _filled(schedule, access, target, beside, busy) + target.launch_seconds


def seconds_in_turns(together: Sequence[tuple[Schedule, Access]], target: Target) -> float:
    """The estimate for matrix products that share a launch, in which a multiprocessor that is done with one tile takes
    the next: those of the first, then those of the second, and so on. Unlike by ``seconds``, tiles that take unlike
    long meet in a wave."""
    counts = [programs(*each) for each in together]
    places = min(max(sum(counts), target.sm_count), *(_at_once(*each, target) for each in together))
    free = {0.0: places}  # how many places become free when
    end = 0.0
    for each, count in zip(together, counts, strict=True):
        turn = _busy(*each, target, sum(counts) - count) * places / count
        while count:
            start = min(free)
            taken = min(count, free[start])
            count -= taken
            free[start] -= taken
            if not free[start]:
                del free[start]
            free[start + turn] = free.get(start + turn, 0) + taken
            end = max(end, start + turn)
    return end + target.launch_seconds


def _busy(schedule: Schedule, access: Access, target: Target, beside: int) -> float:
    """What the device takes if all of it is busy."""
    tiles = {a.name: a for a in schedule.axes if a.role != "parts"}
    read = programs(schedule, access) * sum(_read_by_program(access, load, tiles) for load in access.loads())
    arithmetic = sum(
        2
        * prod(_padded(tiles[a], access) for a in access.free[r] | set(access.nodes[r].bound) if a in tiles)
        / _dot_rate(schedule, access, r, target, beside)
        for r in contractions(access)
    )
    rate, cache_rate = _rates(schedule, access, target, beside)
    return max(cost(access, target).bytes / rate, read / cache_rate, arithmetic)


def _dot_rate(schedule: Schedule, access: Access, contraction: Read, target: Target, beside: int) -> float:
    """FLOP per second of a contraction's products, as kernels of ours compute them."""
    dtype = multiplied(access, contraction)
    rate = target.matmul_rate(dtype.name)
    if dtype is not F32 or not has_dot(access) or target.kind == "cpu":
        return rate
    warps = _running(schedule, access, target, beside) * schedule.num_warps / target.sm_count
    return rate * min(1.0, warps / WARPS_OF_SPLIT_PRODUCTS)


def programs(schedule: Schedule, access: Access | None = None) -> int:
    """How many tiles the grid has, each a program's or a persistent program's turn; with ``access``, those of ragged
    axes are counted by segments that are as long as one another."""
    return prod(_tiles(a, access) for a in schedule.axes if a.role in SPREAD)


def shared_bytes(schedule: Schedule, access: Access) -> int:
    """About how much shared memory a program needs: the tiles that contractions load, once for each stage; only what
    dots read is loaded ahead.

    A persistent program that works with descriptors loads the next tile's operands while the last one's results are
    stored, so that these, and what else is loaded for them, have places of their own.
    """
    tiles = {a.name: a.tile for a in schedule.axes if a.role != "parts"}
    operands = loads_of_contractions(access) if has_dot(access) else set()
    staged = sum(_tile_bytes(load, access, tiles) for load in operands) * max(1, schedule.num_stages)
    if not (schedule.descriptors and schedule.persistent):
        return staged
    beside = [load for load in access.loads() if load not in operands] + [read for _, read in access.roots]
    return staged + sum(_tile_bytes(read, access, tiles) for read in beside) // schedule.epilogue


def _tile_bytes(read: Read, access: Access, tiles: dict[str, int]) -> int:
    return prod(tiles.get(a, 1) for a in access.free[read]) * read.value.dtype.bytes


def accumulator_elements(schedule: Schedule, access: Access) -> int:
    """The elements of all contractions' results that a program holds at once."""
    tiles = {a.name: a.tile for a in schedule.axes if a.role != "parts"}
    return sum(prod(tiles.get(a, 1) for a in access.free[r]) for r in contractions(access))


def _filled(schedule: Schedule, access: Access, target: Target, beside: int, busy: float) -> float:
    """The share of the device that is busy, on average, while the programs run in waves; all of it would be for
    ``busy`` seconds."""
    if target.kind == "cpu":
        return 1.0
    count, at_once = programs(schedule, access) + beside, _at_once(schedule, access, target)
    if count <= at_once:
        return min(1.0, count / target.sm_count)
    return count / (waves(count, at_once, schedule.tail, busy * at_once / count) * at_once)


def _running(schedule: Schedule, access: Access, target: Target, beside: int) -> int:
    """How many programs run at a time, as far as there are so many."""
    return min(programs(schedule, access) + beside, _at_once(schedule, access, target))


def _at_once(schedule: Schedule, access: Access, target: Target) -> int:
    """How many programs the device runs at a time."""
    by_memory = target.shared_memory // max(1, shared_bytes(schedule, access))
    threads = 32 * schedule.num_warps
    held = max(32 * threads, 2 * (accumulator_elements(schedule, access) + _split_elements(schedule, access)))
    by_registers = target.registers_per_sm // min(held, REGISTERS_PER_THREAD * threads)
    return target.sm_count * max(1, min(by_memory, by_registers, WARPS_PER_PROCESSOR // schedule.num_warps))


def _split_elements(schedule: Schedule, access: Access) -> int:
    """The elements of a step's operands that a program has in registers: those of products in fp32, to split each in
    two."""
    if not has_dot(access):
        return 0
    tiles = {a.name: a.tile for a in schedule.axes if a.role != "parts"}
    products = [access.nodes[r] for r in contractions(access) if multiplied(access, r) is F32]
    operands = {o for node in products for o in node.operands}
    return sum(prod(tiles.get(a, 1) for a in access.free[o]) for o in operands)


def _rates(schedule: Schedule, access: Access, target: Target, beside: int) -> tuple[float, float]:
    """The bytes per second of memory and of the cache that the steps which contractions load ahead can ask for: what is
    on its way for ``LATENCY``, of the operand that is the most to read. All of them where nothing is loaded ahead."""
    memory, cache = target.bandwidth, target.cache_bandwidth
    if target.kind == "cpu" or not loads_of_contractions(access):
        return memory, cache
    tiles = {a.name: a.tile for a in schedule.axes if a.role != "parts"}
    step = max(_tile_bytes(load, access, tiles) for load in loads_of_contractions(access))
    steps = max(1, schedule.num_stages - 1) if has_dot(access) else 1
    ahead = _running(schedule, access, target, beside) * steps * step
    return min(memory, ahead / LATENCY), min(cache, ahead / CACHE_LATENCY)


def _read_by_program(access: Access, load: Read, tiles: dict[str, AxisRole]) -> int:
    """The bytes that one program reads of a buffer: over its tile of the grid's axes and all of the others."""
    elements = 1
    for name in access.free[load]:
        axis = tiles[name]
        elements *= min(axis.tile, likely(axis.extent)) if axis.role in SPREAD else likely(axis.extent)
    return elements * load.value.dtype.bytes


def _tiles(axis: AxisRole, access: Access | None) -> int:
    count = 1 if access is None else segments(access, axis.name)
    longest = -(-likely(axis.extent) // count)
    return count * -(-longest // axis.tile)


def _padded(axis: AxisRole, access: Access) -> int:
    return _tiles(axis, access) * axis.tile
