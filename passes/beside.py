"""Pass ``beside``: products that read the same values run in one launch, the tiles of one beside those of the next.

What it gains are the multiprocessors that would wait at the end of each kernel, and launches; each region keeps its own
epilogue and layout. So the projections to queries, keys and values become one launch, whatever is done to each. Small
results that nothing waits for share one, too::

    %q = region(%x, %wq, %cos, %sin)         %q = region(%x, %wq, %cos, %sin) launch=[0, 0]
    %k = region(%x, %wk, %cos, %sin)   ->    %k = region(%x, %wk, %cos, %sin) launch=[0, 1]
    %v = region(%x, %wv)                     %v = region(%x, %wv) launch=[0, 2]
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

import networkx as nx

from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.schedule import OPTIONS, Schedule
from rooftile.passes.base import PassContext
from rooftile.passes.launches import can_share
from rooftile.passes.packing import LASTING, is_packed
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.cost import cost
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.alike import Products
from rooftile.passes.schedules.estimate import programs, seconds
from rooftile.passes.switches import permitted
from rooftile.target import Target

MOST_TOGETHER = 4


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
        order = _dependences(graph)
        for number, group in enumerate(self.groups(graph, order, ctx)):
            for place, (op, schedule) in enumerate(group.items()):
                kept = {name: value for name, value in op.attrs.items() if name not in OPTIONS}
                launch = (number, place)
                changed[op] = replace(op, attrs=freeze_attrs({**kept, **schedule.attrs(), "launch": launch}))
        return replace(graph, ops=tuple(changed.get(op, op) for op in graph.ops)) if changed else graph

    def groups(self, graph: Graph, order: nx.DiGraph, ctx: PassContext) -> Iterator[dict[Op, Schedule]]:
        """The regions of each shared launch with their schedules there."""
        taken: set[Op] = set()
        kinds = graph.attrs.get("kinds") or ("input",) * len(graph.inputs)
        weights = {v for v, kind in zip(graph.inputs, kinds, strict=True) if kind in LASTING or kind == "packed"}
        readers: dict[Value, list[Op]] = {}
        for op in graph.ops:
            if _is_scheduled(op):
                for value in dict.fromkeys(op.inputs):
                    if value not in weights:
                        readers.setdefault(value, []).append(op)
        products = {op: p for op in dict.fromkeys(chain(*readers.values())) if (p := _products(op)) is not None}
        several = {v: some for v, ops in readers.items() if len(some := [op for op in ops if op in products]) > 1}
        # The largest groups first: what all layers read, such as a counter of positions, tears no group apart.
        waiting = {value: _independent(some, order)[:MOST_TOGETHER] for value, some in several.items()}
        while waiting:
            value = max(waiting, key=lambda v: len(waiting[v]))
            together = _independent([op for op in several[value] if op not in taken], order)[:MOST_TOGETHER]
            if 1 < len(together) < len(waiting[value]):
                waiting[value] = together
                continue
            del waiting[value]
            if len(together) < 2:
                continue
            found = self.choice(value, {op: products[op] for op in together}, ctx)
            if found is not None:
                taken.update(found)
                _contract(order, list(found))
                yield found
        yield from self.ends(graph, taken, ctx)

    def ends(self, graph: Graph, taken: Container[Op], ctx: PassContext) -> Iterator[dict[Op, Schedule]]:
        """Regions without reductions that nothing waits for, such as counters that are counted up, as long as the
        device runs them all at once."""
        read = {v for op in graph.ops for v in op.inputs}
        small: dict[Op, Schedule] = {}
        room = ctx.target.sm_count
        for op in graph.ops:
            if op in taken or not _is_scheduled(op) or not read.isdisjoint(op.outputs):
                continue
            schedule = Schedule.from_attrs(op.attrs)
            reduces = compose(op.regions[0], space_of(schedule)).reductions()
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

    def choice(self, value: Value, products: dict[Op, Products], ctx: PassContext) -> dict[Op, Schedule] | None:
        """The schedules with which these regions, which read ``value``, share a launch, if that takes less time."""
        target = ctx.target
        apart = sum(seconds(p.schedule, p.access, target) for p in products.values())
        leader = max(products.values(), key=lambda p: cost(p.access, target).seconds)
        tried = (
            {op: p.like(leader.plain()) for op, p in products.items()},
            {op: p.alone() for op, p in products.items()},
        )
        fitting = [each for each in tried if can_share([p.schedule.attrs() for p in each.values()])]
        if not fitting:
            return None
        best = min(fitting, key=lambda each: _together(list(each.values()), target))
        gain = apart - _together(list(best.values()), target)
        last = list(best)[-1]
        names = [v.name for op in best for v in op.outputs]
        what = f"{', '.join(f'%{name}' for name in names)}, all computed from %{value.name},"
        if not (gain > 0 or self.always) or not permitted("", last.outputs[-1], last.loc):
            text = f"{what} have launches of their own: one for all takes {max(0.0, -gain) * 1e6:.1f} us longer"
            ctx.ledger.add("cut", rule="launch", values=names, reason=text, locs=[op.loc for op in best])
            return None
        text = f"{what} share a launch: {gain * 1e6:.1f} us less by the model"
        ctx.ledger.add("fused", rule="launch", values=names, reason=text, bytes=0, locs=[op.loc for op in best])
        # Triton 3.6 lets the operands' places in shared memory coincide only if those with smaller tiles come first.
        placed = sorted(best, key=lambda op: -best[op].accumulators)
        return {op: best[op].schedule for op in placed}


def _is_scheduled(op: Op) -> bool:
    """Whether ``op`` is a region that is run in every call, with sizes that are known."""
    is_region = op.name == "region" and "roles" in op.attrs
    return is_region and not is_packed(op) and not op.regions[0].size_symbols()


def _products(op: Op) -> Products | None:
    return Products.of(op.regions[0], Schedule.from_attrs(op.attrs))


def _together(products: Sequence[Products], target: Target) -> float:
    """What one launch takes: each kernel runs while the others' programs fill the device with it."""
    counts = [programs(p.schedule) for p in products]
    alone = (
        seconds(p.schedule, p.access, target, beside=sum(counts) - count)
        for p, count in zip(products, counts, strict=True)
    )
    return sum(alone) - (len(products) - 1) * target.launch_seconds


def _dependences(graph: Graph) -> nx.DiGraph:
    producers = graph.producers()
    order: nx.DiGraph = nx.DiGraph()
    order.add_nodes_from(graph.ops)
    before: Op | None = None
    for op in graph.ops:
        order.add_edges_from((producers[v], op) for v in op.inputs if v in producers)
        if op.name == "extern":  # ATen calls stay in order, and may write to what they read
            order.add_edges_from((other, op) for other in (before,) if other is not None)
            before = op
    return order


def _independent(ops: Sequence[Op], order: nx.DiGraph) -> list[Op]:
    """Those of ``ops``, from the first on, of which none has to wait for another."""
    found: list[Op] = []
    for op in ops:
        near = nx.descendants(order, op) | nx.ancestors(order, op)
        if near.isdisjoint(found):
            found.append(op)
    return found


def _contract(order: nx.DiGraph, ops: Sequence[Op]) -> None:
    """Let each of ``ops`` wait for whatever one of them waits for."""
    before = {a for op in ops for a in order.predecessors(op)}
    after = {a for op in ops for a in order.successors(op)}
    order.add_edges_from((a, op) for a in before for op in ops)
    order.add_edges_from((op, a) for a in after for op in ops)
