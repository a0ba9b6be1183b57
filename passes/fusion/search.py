"""The search for the buffers that cost least: one boundary moves at a time, as long as the cost model gains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

import networkx as nx

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.scalar import SCALARS
from rooftile.passes.base import PassContext
from rooftile.passes.canonical.repeated import is_repetition
from rooftile.passes.fusion.judge import Verdict
from rooftile.passes.fusion.partition import Partition, is_heavy, is_renaming
from rooftile.passes.regions.forms import Reason
from rooftile.passes.regions.sizes import likely
from rooftile.passes.switches import permitted

ROUNDS = 3
SMALL = 8  # how many times smaller a value must be than another to be stored in its place, or beside it
CHEAP_FLOPS = 4  # recomputing a value of fewer FLOPs is never worth a buffer
# A value this many times larger than all that it is computed from and all that is computed from it, such as one that
# grows with the square of a length, is stored only if kernels without it take this many times as long.
OUTGROWN = 8
PATIENCE = 2
_ELEMENTWISE = ("pointwise", "cast", "concat")


@dataclass(frozen=True)
class _Move:
    """A change of boundaries: ``value`` stops being a buffer, and with it those of ``along``, which only it is computed
    from; those of ``instead`` become buffers."""

    value: Value
    instead: tuple[Value, ...]
    gain: float
    saved: int
    into: tuple[str, ...]
    rule: str = "cost"
    along: tuple[Value, ...] = ()

    @property
    def reason(self) -> str:
        what = " and ".join(f"%{v.name}" for v in (*self.along, self.value))
        what, microseconds = f"{what} stay{'' if self.along else 's'} on chip", abs(self.gain) * 1e6
        if self.gain > 0:
            return f"{what}: {microseconds:.1f} us less by the model"
        return (
            f"{what}, though that takes {microseconds:.1f} us more by the model: stored, %{self.value.name} would be "
            f"more than {OUTGROWN} times as large as all around"
        )


class Search:
    """Moves the boundaries of ``partition`` and puts every decision into the ledger of ``ctx``."""

    def __init__(self, partition: Partition, ctx: PassContext) -> None:
        self.partition, self.ctx = partition, ctx
        self.order = _post_dominators(partition.graph)
        self.refused: dict[Value, Reason] = {}
        self.early: list[Value] = []  # small values that were stored before boundaries moved

    def run(self) -> None:
        """Store small values that much is computed with, move boundaries until none gains, then store what is computed
        too often."""
        for op in self.partition.graph.ops:
            for value in op.outputs:
                move = self.first(value)
                if move is not None:
                    self.apply(move)
        self.early = self.share_all(self.is_spread)
        for _ in range(ROUNDS):
            values = (v for op in reversed(self.partition.graph.ops) for v in reversed(op.outputs))
            moves = [move for value in values if (move := self.best(value)) is not None and self.apply(move)]
            if not moves:
                break
        for value in self.early:
            if value in self.partition.buffers and self.gain_of(value) <= 0:
                self.partition.buffers.discard(value)
        self.share_light_values()

    def report_cuts(self) -> None:
        """Enter why each value that is stored, but needn't be, is."""
        for op in self.partition.graph.ops:
            for value in self.partition.buffers.difference(self.partition.fixed).intersection(op.outputs):
                self.report_cut(value)

    def first(self, value: Value) -> _Move | None:
        """Down to the value below ``value`` that several read, such as a residual stream, if one kernel computes both:
        it is stored anyway, and where it is, no region reaches through all that was added to it before."""
        p = self.partition
        if value not in p.buffers or value in p.fixed or not is_heavy(p.producers[value]):
            return None
        elements, size = likely(value.type.numel), likely(value.type.bytes)
        same = (v for v in self.below(value) if likely(v.type.numel) == elements and likely(v.type.bytes) <= size)
        shared = next((v for v in same if len(self.uses(v)) > 1), None)
        if shared is None:
            return None
        if p.readers(value, p.buffers | {shared}) != [shared]:  # a sum on the way there would compute it again
            return None
        apart = [p.verdict(v, p.buffers | {shared}) for v in (value, shared)]
        whole = p.verdict(shared, p.buffers - {value})
        gain = sum(v.seconds for v in apart) - whole.seconds
        saved = sum(v.bytes for v in apart) - whole.bytes
        return _Move(value, (shared,), gain, saved, (shared.name,)) if gain > 0 else None

    def best(self, value: Value) -> _Move | None:
        """The boundary for ``value`` that gains most, if any gains."""
        p = self.partition
        if value not in p.buffers or value in p.fixed:
            return None
        readers = p.readers(value)
        before = [p.verdict(r, p.buffers) for r in (value, *readers)]
        best: _Move | None = None
        for instead in ((), *((v,) for v in self.below(value)), *self.above(value)):
            move = self.price(value, instead, readers, before)
            if move is not None and (best is None or move.gain > best.gain):
                best = move
        along = self.as_large(value) if best is None else ()
        if along:
            best = self.price(value, (), readers, [*before, *(p.verdict(v, p.buffers) for v in along)], along)
        return best

    def as_large(self, value: Value) -> tuple[Value, ...]:
        """The buffers as large as ``value`` that it alone is computed from: scores of which it is a mixture."""
        p, size = self.partition, likely(value.type.bytes)
        large = (v for v in p.cone(value)[1] if v in p.buffers - p.fixed and SMALL * likely(v.type.bytes) > size)
        return tuple(v for v in large if p.readers(v) == [value])

    def price(
        self,
        value: Value,
        instead: tuple[Value, ...],
        readers: list[Value],
        before: list[Verdict],
        along: tuple[Value, ...] = (),
    ) -> _Move | None:
        p = self.partition
        if not instead and len(readers) > 1:
            self.refused.setdefault(
                value, Reason("recompute", value, f"%{value.name} is read by {len(readers)} kernels")
            )
            return None
        buffers = p.buffers.difference((value, *along)).union(instead)
        after = [p.verdict(r, buffers) for r in (*instead, *readers)]
        blocked = next((v.reason for v in after if v.reason is not None), None)
        if blocked is not None:
            self.refused.setdefault(value, blocked)
            return None
        stored, computed = (sum(v.seconds for v in verdicts) for verdicts in (before, after))
        gain = stored - computed
        saved = sum(v.bytes for v in before) - sum(v.bytes for v in after)
        into = tuple(r.name for r in instead or readers)
        if gain <= 0 and not instead and computed <= PATIENCE * stored and self.outgrows(value, along, readers):
            return _Move(value, instead, gain, saved, into, "memory", along)
        if gain <= 0:
            text = f"computing %{value.name} inside its reader takes {-gain * 1e6:.1f} us longer than storing it"
            self.refused.setdefault(value, Reason("cost", value, text))
            return None
        outgrown = value in self.early and any(self.outgrows(v, (value,), readers) for v in instead)
        if outgrown and stored <= PATIENCE * computed:  # a bias for all pairs, in place of one for all distances
            return None
        return _Move(value, instead, gain, saved, into, along=along)

    def outgrows(self, value: Value, along: tuple[Value, ...], readers: list[Value]) -> bool:
        """Whether ``value`` is far larger than all that it is computed from and all that is computed from it."""
        around = (*self.partition.cone(value, self.partition.buffers.difference(along))[1], *readers)
        return likely(value.type.bytes) > OUTGROWN * sum(likely(v.type.bytes) for v in around)

    def below(self, value: Value) -> Iterator[Value]:
        """Values that everything computed from ``value`` passes through, nearest first, before the next buffer, and
        before it is one piece of many side by side: of what is computed of all, little is its own."""
        p, before = self.partition, value
        current = self.order.get(value)
        while current is not None and current not in p.buffers and not is_heavy(p.producers[current]):
            name = p.producers[current].name
            if name == "extern" or (name == "concat" and _is_many_times(current, before)):
                return
            before = current
            if not is_renaming(p.producers[current]) and not is_repetition(p.producers[current]):
                yield current
            current = self.order.get(current)

    def above(self, value: Value) -> Iterator[tuple[Value, ...]]:
        """The small reductions that ``value`` is computed with: where they are stored in its place, whoever reads it
        computes the rest again."""
        ops, _ = self.partition.cone(value)
        heavy = [op.output for op in ops if is_heavy(op) and op.output is not value]
        small = tuple(v for v in heavy if SMALL * likely(v.type.numel) <= likely(value.type.numel))
        if small and len(small) < len(heavy) and not is_heavy(self.partition.producers[value]):
            yield small

    def apply(self, move: _Move) -> bool:
        p = self.partition
        if not permitted("fused", move.value, p.producers[move.value].loc):
            return False
        p.buffers.difference_update((move.value, *move.along))
        p.buffers.update(move.instead)
        for value in (move.value, *move.along):
            saved, locs = move.saved if value is move.value else 0, [p.producers[value].loc]
            names = (value.name, *move.into)
            self.ctx.ledger.add("fused", rule=move.rule, values=names, reason=move.reason, bytes=saved, locs=locs)
        return True

    def report_cut(self, value: Value) -> None:
        reason = self.refused.get(value)
        if reason is None:
            return
        p = self.partition
        locs = [p.producers[v].loc for v in (value, reason.value) if v in p.producers]
        self.ctx.ledger.add(
            "cut",
            rule=reason.rule,
            values=(value.name,),
            reason=reason.text,
            bytes=-2 * likely(value.type.bytes),
            locs=locs,
        )

    def share_light_values(self) -> None:
        """Give a buffer to a small value whose computation is repeated over many elements (a table of sines read by
        every head), to what several values are computed from, then to operands of contractions that are computed from
        weights, gathered, or computed for every tile anew."""
        operands = (self.is_packable_operand, self.is_gathered_operand, self.is_computed_operand)
        for is_wanted in (self.is_spread, self.is_shared, *operands):
            self.share_all(is_wanted)

    def share_all(self, is_wanted: Callable[[Value], bool]) -> list[Value]:
        """Give buffers to the values that ``is_wanted``, the smallest first, wherever that takes less time; of those
        as small as one another the last one first. Which they are."""
        computed = (op for op in reversed(self.partition.graph.ops) if is_indirect(op) or op.name in _ELEMENTWISE)
        values = (op.output for op in computed if not is_repetition(op))
        smallest_first = sorted(values, key=lambda v: likely(v.type.bytes))
        return [v for v in smallest_first if v not in self.partition.buffers and is_wanted(v) and self.share(v)]

    def share(self, value: Value) -> bool:
        """Give a buffer to ``value`` if that takes less time, and say whether it has got one."""
        p, gain = self.partition, self.gain_of(value)
        if gain <= 0 or not permitted("shared", value, p.producers[value].loc):
            return False
        p.buffers.add(value)
        text = f"%{value.name} is stored: computing it where it is read takes {gain * 1e6:.1f} us longer"
        self.ctx.ledger.add("cut", rule="cost", values=(value.name,), reason=text, locs=[p.producers[value].loc])
        return True

    def gain_of(self, value: Value) -> float:
        """How much less time is taken with a buffer for ``value`` than without one; none where there can't be one, or
        has to be."""
        p = self.partition
        without, stored = p.buffers - {value}, p.buffers | {value}
        readers = p.readers(value, without)
        before = [p.verdict(r, without) for r in readers]
        after = [p.verdict(r, stored) for r in (value, *readers)]
        if any(v.reason is not None for v in after):
            return 0.0
        if any(v.reason is not None for v in before):
            return inf if value in p.buffers else 0.0
        return sum(v.seconds for v in before) - sum(v.seconds for v in after)

    def is_spread(self, value: Value) -> bool:
        """Whether ``value`` is far smaller than what is computed with it."""
        far = max(self.uses(value), default=0) >= SMALL * likely(value.type.numel)
        return far and self.flops(value) >= CHEAP_FLOPS

    def is_shared(self, value: Value) -> bool:
        """Whether ``value`` is computed with in several places."""
        return len(self.uses(value)) > 1 and self.flops(value) >= CHEAP_FLOPS

    def is_packable_operand(self, value: Value) -> bool:
        """Whether ``value`` is computed once, from weights, and a contraction of other values reads it."""
        p = self.partition
        if value not in p.packable:
            return False
        stack = [value]
        while stack:
            for user in p.users.get(stack.pop(), ()):
                if is_renaming(user):
                    stack.append(user.output)
                elif user.name == "contract" and user.output not in p.packable:
                    return True
        return False

    def is_gathered_operand(self, value: Value) -> bool:
        """Whether a contraction reads ``value`` row by row, and its rows are gathered, with whatever is done to them
        then: it might rather find them in order."""
        if not any(user.name == "contract" for user in self.partition.users.get(value, ())):
            return False
        ops, _ = self.partition.cone(value)
        return any(is_indirect(op) and likely(op.output.type.numel) == likely(value.type.numel) for op in ops)

    def is_computed_operand(self, value: Value) -> bool:
        """Whether a contraction reads ``value``, and computes it element by element for each of its tiles."""
        if not any(user.name == "contract" for user in self.partition.users.get(value, ())):
            return False
        ops, _ = self.partition.cone(value)
        return not any(map(is_heavy, ops)) and self.flops(value) >= CHEAP_FLOPS

    def uses(self, value: Value) -> list[int]:
        """For each op that computes with ``value``, behind views and casts, how many elements it gives."""
        found: list[int] = []
        for user in self.partition.users.get(value, ()):
            for out in user.outputs:
                seen_through = user.name == "cast" or is_renaming(user) or is_repetition(user)
                given = user.inputs[1] if user.name == "scatter" else out
                found += self.uses(out) if seen_through else [likely(given.type.numel)]
        return found

    def flops(self, value: Value) -> int:
        ops, _ = self.partition.cone(value)
        return sum(SCALARS[op.attrs["fn"]].flops for op in ops if op.name == "pointwise")


def _is_many_times(large: Value, small: Value) -> bool:
    return likely(large.type.numel) > SMALL * likely(small.type.numel)


def is_indirect(op: Op) -> bool:
    """Whether ``op`` reads at indices that are data."""
    return op.name == "gather" and len(op.inputs) > 1


def _post_dominators(graph: Graph) -> dict[Value, Value]:
    """For each value the nearest value that every path from it to a graph output or extern passes through, where there
    is one."""
    end = "end"
    backwards: nx.DiGraph = nx.DiGraph()
    for op in graph.ops:
        for source in op.inputs:
            for out in op.outputs:
                backwards.add_edge(out, source)
            if op.name == "extern":
                backwards.add_edge(end, source)
    for value in graph.outputs:
        backwards.add_edge(end, value)
    if end not in backwards:
        return {}
    dominators = nx.immediate_dominators(backwards, end)
    return {v: d for v, d in dominators.items() if isinstance(v, Value) and isinstance(d, Value) and v is not d}
