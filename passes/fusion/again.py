"""A small value that several regions read is computed again in each that reads all it is computed from anyway.

Stored, it makes them wait: for a kernel of its own, or for that of the one among them which stores it beside its own
result. Either way a launch comes before those that could share one. So of one row that is normed and multiplied by
three matrices while decoding, each product computes the sum of squares, and the three run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Value
from rooftile.passes.base import PassContext
from rooftile.passes.fusion.partition import Partition, is_heavy
from rooftile.passes.switches import permitted


def compute_again(partition: Partition, ctx: PassContext) -> None:
    """Take the buffers of values whose readers compute them in less time than a launch takes."""
    stored = partition.buffers.difference(partition.fixed, partition.packable)
    for op in partition.graph.ops:
        for value in stored.intersection(op.outputs):
            if partition.host(value) is value:
                _in_each_reader(partition, value, ctx)


def _in_each_reader(p: Partition, value: Value, ctx: PassContext) -> None:
    readers, loc = p.hosts(value), p.producers[value].loc
    if len(readers) < 2 or not all(reads_as_much(p, value, r) for r in readers) or not _are_independent(p, readers):
        return
    before = [p.verdict(r, p.buffers) for r in readers]
    after = [p.verdict(r, p.buffers - {value}) for r in readers]
    gain = p.target.launch_seconds - sum(v.seconds for v in after) + sum(v.seconds for v in before)
    if any(v.reason is not None for v in after) or gain <= 0 or not permitted("again", value, loc):
        return
    saved = p.verdict(value, p.buffers).bytes + sum(v.bytes for v in before) - sum(v.bytes for v in after)
    p.buffers.discard(value)
    names = (value.name, *(r.name for r in readers))
    text = f"%{value.name} is computed by all {len(readers)} kernels that read it, none of which waits for it then"
    text += f": {gain * 1e6:.1f} us less by the model"
    ctx.ledger.add("fused", rule="again", values=names, reason=text, bytes=saved, locs=[loc])


def reads_as_much(p: Partition, value: Value, host: Value) -> bool:
    """Whether the region of ``host`` reduces everything that the one of ``value`` reads: one row is enough for both."""
    (_, mine), (ops, its) = p.cone(value), p.cone(host)
    return any(map(is_heavy, ops)) and set(mine) <= set(its)


def _are_independent(p: Partition, readers: Sequence[Value]) -> bool:
    """Whether none of these needs another one, so that they could share a launch."""
    return not any(p.needs(p.producers[r].inputs, set(readers) - {r}) for r in readers)
