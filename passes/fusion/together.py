"""A value that several regions read stays on chip if one region with several results computes them all.

Scores may be read for a mean that they weigh and for the logarithm of each row's sum. Neither is computed from the
other, and each alone would compute the scores again; in one sweep both come of the same tiles.
"""

from __future__ import annotations

from collections.abc import Iterable

from rooftile.ir.core import Value
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_narrow
from rooftile.passes.fusion.partition import Partition, is_heavy
from rooftile.passes.regions.sizes import likely
from rooftile.passes.switches import permitted


def compute_together(partition: Partition, ctx: PassContext) -> None:
    """Take the buffers of values that cost less where one region computes all that is computed from them; then those of
    what such a region gives if little is computed from it."""
    stored = partition.buffers.difference(partition.fixed, partition.packable)
    values = [v for op in reversed(partition.graph.ops) for v in op.outputs if v in stored]
    for beside_others in (False, True):
        for value in values:
            if value in partition.buffers and (partition.host(value) is not value) == beside_others:
                _in_one_region(partition, value, ctx)


def _in_one_region(p: Partition, value: Value, ctx: PassContext) -> None:
    """Make one region of those that read ``value``, and that which gives it beside others. Its root is the result of
    most elements, over whose axes the others are computed; what only it reads is no result of it."""
    host = p.host(value)
    regions = list(dict.fromkeys((*(() if host is value else (host,)), *p.hosts(value))))
    given = [r for region in regions for r in p.results(region)]
    together = frozenset(given)
    inside = [r for r in given if r not in p.fixed and together.issuperset(p.readers(r))]
    results = sorted((r for r in given if r not in inside), key=lambda r: likely(r.type.numel))
    added = [r for r in results if r not in p.results(host)]
    if len(results) < 2 or not added or _bytes([value]) < _bytes(added):
        return
    # Each of two products wants tiles of its own.
    if sum(_multiplies(p, region) for region in regions) > 1:
        return
    *taps, root = results
    buffers = p.buffers.difference((value, *inside))
    # A narrow result is rounded where it is stored, and not where the same region computes with it.
    if any(is_narrow(r.dtype) and not set(results).isdisjoint(p.readers(r, buffers)) for r in results):
        return
    if p.needs(p.body(root, buffers, tuple(taps)).inputs, results):
        return
    before = [p.verdict(v, p.buffers) for v in dict.fromkeys((host, *regions))]
    after = p.verdict(root, buffers, tuple(taps))
    gain, loc = sum(v.seconds for v in before) - after.seconds, p.producers[value].loc
    if after.reason is not None or gain <= 0 or not permitted("together", value, loc):
        return
    p.buffers = buffers
    p.taps = {other: own for other, own in p.taps.items() if other not in regions} | {root: tuple(taps)}
    reason = f"%{value.name} stays on chip in one kernel of {_listed(results)}: {gain * 1e6:.1f} us less by the model"
    saved = sum(v.bytes for v in before) - after.bytes
    names = (value.name, *(r.name for r in results))
    ctx.ledger.add("fused", rule="together", values=names, reason=reason, bytes=saved, locs=[loc])


def _bytes(values: Iterable[Value]) -> int:
    return sum(likely(v.type.bytes) for v in values)


def _multiplies(p: Partition, host: Value) -> bool:
    return any(op.name == "contract" and is_heavy(op) for op in p.body(host).ops)


def _listed(values: list[Value]) -> str:
    *others, last = [f"%{v.name}" for v in values]
    return f"{', '.join(others)} and {last}"
