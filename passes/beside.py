"""Pass ``beside``: products that read the same values run in one launch, the tiles of one beside those of the next.

What it gains are the multiprocessors that would wait at the end of each kernel, and launches; each region keeps its own
epilogue and layout. So the projections to queries, keys and values become one launch, whatever is done to each. Small
results that nothing waits for share one, too, and so do regions that are over before the next launch has begun::

    %q = region(%x, %wq, %cos, %sin)         %q = region(%x, %wq, %cos, %sin) launch=[0, 0]
    %k = region(%x, %wk, %cos, %sin)   ->    %k = region(%x, %wk, %cos, %sin) launch=[0, 1]
    %v = region(%x, %wv)                     %v = region(%x, %wv) launch=[0, 2]
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from math import prod
from typing import ClassVar, TypeAlias

from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.dtypes import DType
from rooftile.ir.schedule import OPTIONS, Schedule
from rooftile.ir.structure import attrs_key
from rooftile.passes.base import PassContext
from rooftile.passes.brief import brief_groups
from rooftile.passes.dependences import Dependences
from rooftile.passes.distinct import Distinct
from rooftile.passes.launches import can_share
from rooftile.passes.packing import is_scheduled, readers
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import has_dot
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.alike import Products
from rooftile.passes.schedules.estimate import programs, seconds, seconds_in_turns
from rooftile.passes.switches import permitted
from rooftile.target import Target

MOST_TOGETHER = 4
NANOSECOND = 9  # decimal places of seconds: what lies behind is rounding
# What is known of products together, each by its identity: those of layers that are alike are the same.
Shared: TypeAlias = dict[tuple[int, ...], tuple[list[Products], float] | None]


@dataclass(frozen=True)
class Beside:
    """Marks the regions that share a launch, and gives them schedules that can; with ``always``, wherever they may."""

    name: ClassVar[str] = "beside"
    always: bool = False

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with the attribute ``launch`` on these regions."""
        if ctx.target.kind != "cuda" and not self.always:
            return graph
        changed: dict[Op, Op] = {}
        order = Dependences(graph)
        for number, group in enumerate(self.groups(graph, order, ctx)):
            for place, (op, schedule) in enumerate(group.items()):
                kept = {name: value for name, value in op.attrs.items() if name not in OPTIONS}
                launch = (number, place)
                changed[op] = replace(op, attrs=freeze_attrs({**kept, **schedule.attrs(), "launch": launch}))
        return replace(graph, ops=tuple(changed.get(op, op) for op in graph.ops)) if changed else graph

    def groups(self, graph: Graph, order: Dependences, ctx: PassContext) -> Iterator[dict[Op, Schedule]]:
        """The regions of each shared launch with their schedules there."""
        taken: set[Op] = set()
        reads = readers(graph, filter(is_scheduled, graph.ops))
        known = Distinct[Products | None](ctx.structures)
        reading = dict.fromkeys(chain(*reads.values()))
        products = {op: p for op in reading if (p := _products(op, known)) is not None}
        several: dict[tuple[Value, DType | None], list[Op]] = {}
        for value, ops in reads.items():
            for op in ops:
                if op in products:
                    several.setdefault((value, products[op].multiplied), []).append(op)
        # The largest groups first: what all layers read, such as a counter of positions, tears no group apart.
        waiting = {key: order.independent(some)[:MOST_TOGETHER] for key, some in several.items() if len(some) > 1}
        shared: Shared = {}
        while waiting:
            key = max(waiting, key=lambda key: len(waiting[key]))
            together = order.independent([op for op in several[key] if op not in taken])[:MOST_TOGETHER]
            if 1 < len(together) < len(waiting[key]):
                waiting[key] = together
                continue
            del waiting[key]
            if len(together) < 2:
                continue
            found = self.choice(key[0], {op: products[op] for op in together}, shared, ctx)
            if found is not None:
                taken.update(found)
                order.join(list(found))
                yield found
        for found in self.ends(graph, taken, ctx):
            taken.update(found)
            yield found
        yield from brief_groups(graph, taken, order, ctx)

    def ends(self, graph: Graph, taken: Container[Op], ctx: PassContext) -> Iterator[dict[Op, Schedule]]:
        """Regions without reductions that nothing waits for, such as counters that are counted up, as long as the
        device runs them all at once."""
        read = {v for op in graph.ops for v in op.inputs}
        small: dict[Op, Schedule] = {}
        room, known = ctx.target.sm_count, Distinct[bool](ctx.structures)
        for op in graph.ops:
            if op in taken or not is_scheduled(op) or not read.isdisjoint(op.outputs):
                continue
            schedule = Schedule.from_attrs(op.attrs)
            reduces, _ = known.of(op.regions[0], partial(_reduces, op, schedule), attrs_key(schedule.attrs()))
            fits = can_share([s.attrs() for s in (*small.values(), schedule)])
            if fits and not reduces and programs(schedule) <= room:
                small[op] = schedule
                room -= programs(schedule)
        if len(small) > 1 and permitted("ends", [*small][-1].outputs[-1], [*small][-1].loc):
            names = [v.name for op in small for v in op.outputs]
            gain = (len(small) - 1) * ctx.target.launch_seconds * 1e6
            text = f"{len(small)} small results that nothing waits for share a launch: {gain:.1f} us less by the model"
            ctx.ledger.add("fused", rule="launch", values=names, reason=text, bytes=0, locs=[op.loc for op in small])
            yield small

    def choice(
        self, value: Value, products: dict[Op, Products], known: Shared, ctx: PassContext
    ) -> dict[Op, Schedule] | None:
        """The schedules with which these regions, which read ``value``, share a launch, if that takes less time."""
        key = tuple(map(id, products.values()))
        if key not in known:
            known[key] = _shared(list(products.values()), ctx.target)
        if (together := known[key]) is None:
            return None
        found, gain = together
        best = dict(zip(products, found, strict=True))
        last = list(best)[-1]
        names = [v.name for op in best for v in op.outputs]
        what = f"{', '.join(f'%{name}' for name in names)}, all computed from %{value.name},"
        if not (gain > 0 or self.always) or not permitted("", last.outputs[-1], last.loc):
            text = f"{what} have launches of their own: one for all takes {max(0.0, -gain) * 1e6:.1f} us longer"
            ctx.ledger.add("cut", rule="launch", values=names, reason=text, locs=[op.loc for op in best])
            return None
        text = f"{what} share a launch: {gain * 1e6:.1f} us less by the model"
        ctx.ledger.add("fused", rule="launch", values=names, reason=text, bytes=0, locs=[op.loc for op in best])
        placed = _placed(found)
        return {op: p.schedule for p in placed for op, each in best.items() if each is p}


def _reduces(op: Op, schedule: Schedule) -> bool:
    return bool(compose(op.regions[0], space_of(schedule)).reductions())


def _products(op: Op, known: Distinct[Products | None]) -> Products | None:
    body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
    return known.of(body, lambda: Products.of(body, schedule), attrs_key(schedule.attrs()))[0]


def _shared(products: Sequence[Products], target: Target) -> tuple[list[Products], float] | None:
    """``products`` as they share a launch best, and what that gains; None where they can't."""
    longest = max(products, key=lambda p: cost(p.access, target).seconds)
    tried: list[list[Products]] = []
    for leader in (longest.plain(target), *longest.larger(target)):
        like = [p.like(leader) for p in products]
        # Whole waves of large tiles, and what is left over in small ones: each product in tiles of either kind.
        tried += map(list, product(*((p, p.narrower()) for p in like)))
    tried.append([p.alone() for p in products])
    fitting = [each for each in tried if can_share([p.schedule.attrs() for p in each])]
    if not fitting:
        return None
    taken = [round(_together(each, target), NANOSECOND) for each in fitting]
    apart = sum(seconds(p.schedule, p.access, target) for p in products)
    return fitting[taken.index(min(taken))], round(apart - min(taken), NANOSECOND)


def _placed(products: Sequence[Products]) -> list[Products]:
    """In the order of their tiles in the launch, as it was measured: those of several accumulators first; of these, and
    of the others, what takes longest."""
    return sorted(products, key=lambda p: (-p.accumulators, -prod(p.tiles()) if p.is_matrix else 0))


def _together(products: Sequence[Products], target: Target) -> float:
    """What one launch takes: each kernel runs while the others' programs fill the device with it."""
    if all(p.is_matrix and has_dot(p.access) for p in products) and target.kind == "cuda":
        return seconds_in_turns([(p.schedule, p.access) for p in _placed(products)], target)
    counts = [programs(p.schedule) for p in products]
    alone = (
        seconds(p.schedule, p.access, target, beside=sum(counts) - count)
        for p, count in zip(products, counts, strict=True)
    )
    return sum(alone) - (len(products) - 1) * target.launch_seconds
