"""Regions that take hardly longer than their launch: all that can run at the same time share one.

While decoding, most kernels between the large products are such ones: the norms of queries and of keys, and what places
tokens by their experts, counts them and weighs them. Each runs as soon as what it reads is there, beside the others
that can then.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.replacing import replaced_operands
from rooftile.ir.schedule import Schedule
from rooftile.ir.structure import attrs_key
from rooftile.passes.base import PassContext
from rooftile.passes.dependences import Dependences
from rooftile.passes.distinct import Distinct
from rooftile.passes.launches import can_share
from rooftile.passes.packing import is_packed, is_scheduled
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.space import space_of
from rooftile.passes.schedules.estimate import WARPS_PER_PROCESSOR, programs, seconds
from rooftile.passes.switches import permitted
from rooftile.target import Target

BRIEF = 2  # launches that such a region takes at the most, its own being one
MOST = 8  # regions in one launch, each a function of the kernel's file


@dataclass(frozen=True)
class _Brief:
    """A region and its schedule; it takes ``seconds``."""

    op: Op
    schedule: Schedule
    seconds: float


def brief_groups(
    graph: Graph, taken: Container[Op], order: Dependences, ctx: PassContext
) -> Iterator[dict[Op, Schedule]]:
    """The regions of each launch that such ones share, with their schedules there; none of ``taken``."""
    waiting = {b.op: b for b in _brief(graph, taken, ctx)}
    done: set[Op] = set()
    for op in (None, *(op for op in graph.ops if op not in waiting)):
        done.update(() if op is None else (op,))
        while ready := order.ready(list(waiting), done):
            group = _at_once([waiting[each] for each in order.independent(ready)], ctx.target)
            done.update(b.op for b in group)
            waiting = {each: b for each, b in waiting.items() if each not in done}
            if len(group) > 1 and (found := _shared(group, ctx)):
                order.join(list(found))
                yield found


def _brief(graph: Graph, taken: Container[Op], ctx: PassContext) -> Iterator[_Brief]:
    """The brief regions that neither write over what others may read nor read what others write over: they may come to
    stand behind these."""
    known = Distinct[float | None](ctx.structures)
    over = _written_over(graph)
    for op in graph.ops:
        if op in taken or not is_scheduled(op) or replaced_operands(op) or not over.isdisjoint(op.inputs):
            continue
        body, schedule = op.regions[0], Schedule.from_attrs(op.attrs)
        spent, _ = known.of(body, partial(_seconds, body, schedule, ctx.target), attrs_key(schedule.attrs()))
        if spent is not None and spent <= BRIEF * ctx.target.launch_seconds:
            yield _Brief(op, schedule, spent)


def _written_over(graph: Graph) -> set[Value]:
    """The values whose memory may get other elements while the graph runs."""
    over = {v for op in graph.ops if op.name == "extern" and not is_packed(op) for v in op.inputs}
    for op in graph.ops:
        if op.name == "region":
            over.update(replaced_operands(op).values())
    return over


def _seconds(body: Graph, schedule: Schedule, target: Target) -> float | None:
    """What a region is estimated to take; None where it multiplies matrices, whose tiles fill shared memory."""
    access = compose(body, space_of(schedule))
    return None if contractions(access) else seconds(schedule, access, target)


def _at_once(ready: Sequence[_Brief], target: Target) -> list[_Brief]:
    """The first of ``ready``, and those that the device can run beside it."""
    found: list[_Brief] = []
    for each in ready[:MOST]:
        group = [*found, each]
        warps = max(b.schedule.num_warps for b in group) * sum(programs(b.schedule) for b in group)
        if not found or warps <= WARPS_PER_PROCESSOR * target.sm_count:
            found = group
    return found


def _shared(group: Sequence[_Brief], ctx: PassContext) -> dict[Op, Schedule]:
    """The schedules of ``group`` in one launch, the longest first, each with as many warps and stages as the one that
    has most of them; none where they can't share one."""
    warps = max(b.schedule.num_warps for b in group)
    stages = max(b.schedule.num_stages for b in group)
    placed = sorted(group, key=lambda b: -b.seconds)
    found = {b.op: replace(b.schedule, num_warps=warps, num_stages=stages) for b in placed}
    last = group[-1].op
    if not can_share([s.attrs() for s in found.values()]) or not permitted("brief", last.outputs[-1], last.loc):
        return {}
    names = [v.name for b in group for v in b.op.outputs]
    gain = (len(group) - 1) * ctx.target.launch_seconds * 1e6
    text = f"{len(group)} regions that take hardly longer than a launch share one: {gain:.1f} us less by the model"
    ctx.ledger.add("fused", rule="launch", values=names, reason=text, bytes=0, locs=[b.op.loc for b in group])
    return found
