"""Regions that compute the same on their way become one region with several results.

A softmax's maximum and sum that others read are two values of one sweep: the sum's region computes the maximum anyway
if it does not read it. A mean and the variance about it are two values of one row.
"""

from __future__ import annotations

from rooftile.ir.core import Value
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_narrow
from rooftile.passes.fusion.again import reads_as_much
from rooftile.passes.fusion.partition import Partition, is_heavy
from rooftile.passes.switches import permitted


def join(partition: Partition, ctx: PassContext) -> None:
    """Let regions store what they compute anyway, where that costs less than a region of its own."""
    for op in partition.graph.ops:
        for value in partition.buffers.difference(partition.given).intersection(op.outputs):
            # A narrow result is rounded where it is stored, and not where the same region computes with it.
            if partition.host(value) is not value or is_narrow(value.dtype):
                continue
            if any(map(is_heavy, partition.cone(value)[0])):
                _join_with_reader(partition, value, ctx)


def _join_with_reader(p: Partition, value: Value, ctx: PassContext) -> None:
    """Make the region of ``value`` a part of one that reads it, if both compute the same reduction or contraction, or
    the one reads it to compute what the other has read."""
    shared = _heavy(p, value)
    for host in p.hosts(value):
        taps = (*p.taps.get(value, ()), value, *p.taps.get(host, ()))
        alike = not shared.isdisjoint(_heavy(p, host)) or reads_as_much(p, value, host) or _is_step(p, value, host)
        if not alike or _depends(p, host, taps):
            continue
        before = [p.verdict(v, p.buffers) for v in (value, host)]
        after = p.verdict(host, p.buffers, taps)
        gain = sum(v.seconds for v in before) - after.seconds
        if after.reason is None and gain > 0 and permitted("joined", value, p.producers[value].loc):
            p.taps.pop(value, None)
            p.taps[host] = taps
            reason = f"%{value.name} is stored by the kernel of %{host.name}: {gain * 1e6:.1f} us less by the model"
            saved = sum(v.bytes for v in before) - after.bytes
            names = (value.name, host.name)
            ctx.ledger.add(
                "fused", rule="cost", values=names, reason=reason, bytes=saved, locs=[p.producers[value].loc]
            )
            return


def _is_step(p: Partition, value: Value, host: Value) -> bool:
    """Whether ``host`` is a reduction of ``value``, itself one, such as the positions of ranks, without products in
    between, which want tiles of their own."""
    (mine, _), (ops, inputs) = p.cone(value), p.cone(host)
    return value in inputs and any(map(is_heavy, ops)) and not any(op.name == "contract" for op in (*mine, *ops))


def _heavy(p: Partition, root: Value) -> frozenset[Value]:
    """The reductions and contractions that the region of ``root`` computes on the way to it."""
    return frozenset(op.output for op in p.cone(root)[0] if is_heavy(op) and op.output is not root)


def _depends(p: Partition, host: Value, taps: tuple[Value, ...]) -> bool:
    """Whether something else that the region of ``host`` reads needs one of ``taps``: it would wait for itself."""
    return p.needs(p.body(host, p.buffers, taps).inputs, taps)
