"""Pass ``fuse``: which values become buffers, hence which ops share a kernel.

A region is the cone of ops between one buffer and the buffers it reads. The pass starts with every reduction's and
contraction's result as a buffer and moves these
boundaries while ``derive`` allows it and the cost model gains: away (the reduction is computed inside its reader) or
down to a value that everything read from it
passes through (an epilogue). Whatever is decided goes into the ledger with its price::

    %y = contract(%x, %w)                     region { %y = contract(%x, %w)
    %z = pointwise.maximum(%y, 0)     ->               %z = pointwise.maximum(%y, 0) }
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import networkx as nx

from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import SCALARS
from rooftile.passes.base import PassContext
from rooftile.passes.derive import Derivation, Reason, derive
from rooftile.passes.regions.compose import NoCommonSpace
from rooftile.passes.regions.cost import Cost, cost
from rooftile.passes.regions.forms import Unschedulable
from rooftile.passes.regions.sizes import likely
from rooftile.passes.rules import positions
from rooftile.passes.tile import may_be_unschedulable, schedule_region
from rooftile.target import Target

ROUNDS = 3
CHEAP_FLOPS = 4  # recomputing a value of fewer FLOPs is never worth a buffer


@dataclass(frozen=True)
class Fuse:
    """Partitions the graph into regions."""

    name: ClassVar[str] = "fuse"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with every op but externs inside a region."""
        if all(op.name in ("region", "extern") for op in graph.ops):
            return graph
        partition = Partition(graph, ctx.target)
        _Search(partition, ctx).run()
        return build_regions(partition, ctx)


@dataclass(frozen=True)
class Verdict:
    """What a region would be: how it is derived and its price, or the reason why it can't be one kernel."""

    derivation: Derivation | None
    price: Cost | None
    reason: Reason | None

    @property
    def seconds(self) -> float:
        return self.price.seconds if self.price else float("inf")

    @property
    def bytes(self) -> int:
        return self.price.bytes if self.price else 0


def is_heavy(op: Op) -> bool:
    """Whether an element of the result takes many elements of the operands; a product that sums nothing doesn't."""
    if op.name == "contract":
        return any(size != 1 and name not in op.attrs["out"] for name, size in op.attrs["axes"])
    return op.name in ("reduce", "scan")


def is_renaming(op: Op) -> bool:
    """Whether the result is the one operand's elements under other indices."""
    return len(op.inputs) == 1 and op.name in GRAPH_OPS and GRAPH_OPS[op.name].view


class Partition:
    """The graph and the set of values that are buffers; regions follow from these two."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph, self.target = graph, target
        self.producers, self.users = graph.producers(), graph.users()
        self.position = {op: n for n, op in enumerate(graph.ops)}
        externs = [op for op in graph.ops if op.name == "extern"]
        given = {*graph.inputs, *(v for op in externs for v in op.outputs)}
        self.fixed = {*graph.outputs, *(v for op in externs for v in op.inputs)} - given
        self.given = given
        heavy = {op.output for op in graph.ops if is_heavy(op)}
        self.buffers: set[Value] = self.fixed | heavy
        self._verdicts: dict[tuple[Value, frozenset[Value]], Verdict] = {}

    def cone(self, root: Value, buffers: set[Value] | None = None) -> tuple[list[Op], list[Value]]:
        """The ops that compute ``root`` from buffers and inputs, in graph order, and these."""
        stops = self.buffers if buffers is None else buffers
        ops: set[Op] = set()
        leaves: dict[Value, None] = {}
        stack = [root]
        while stack:
            value = stack.pop()
            if value in self.given or (value in stops and value is not root):
                leaves[value] = None
            elif (op := self.producers[value]) not in ops:
                ops.add(op)
                stack.extend(reversed(op.inputs))
        return sorted(ops, key=self.position.__getitem__), list(leaves)

    def body(self, root: Value, buffers: set[Value] | None = None) -> Graph:
        """The region that computes ``root``."""
        ops, leaves = self.cone(root, buffers)
        return Graph(root.name, tuple(leaves), tuple(ops), (root,))

    def verdict(self, root: Value, buffers: set[Value]) -> Verdict:
        """Whether and at what price one kernel computes ``root`` from ``buffers``; remembered."""
        body = self.body(root, buffers)
        key = (root, frozenset(body.inputs))
        if key not in self._verdicts:
            self._verdicts[key] = judge(body, self.target)
        return self._verdicts[key]

    def readers(self, value: Value, buffers: set[Value] | None = None) -> list[Value]:
        """The buffers whose regions read ``value``, directly or by computing it again."""
        stops = self.buffers if buffers is None else buffers
        found: dict[Value, None] = {}
        seen: set[Value] = {value}
        stack = [value]
        while stack:
            for op in self.users.get(stack.pop(), ()):
                for out in op.outputs if op.name != "extern" else ():
                    if out in seen:
                        continue
                    seen.add(out)
                    if out in stops:
                        found[out] = None
                    else:
                        stack.append(out)
        return list(found)


def judge(body: Graph, target: Target) -> Verdict:
    """Compose, derive, schedule and price a candidate region."""
    try:
        outcome = _schedulable(derive(body), target)
        if isinstance(outcome, Reason):
            return Verdict(None, None, outcome)
        return Verdict(outcome, cost(outcome.access, target), None)
    except NoCommonSpace as error:
        return Verdict(None, None, Reason("axes", error.value, str(error)))


def _schedulable(outcome: Derivation | Reason, target: Target) -> Derivation | Reason:
    """``outcome`` with what no tile can hold rewritten until roles are found."""
    while isinstance(outcome, Derivation) and may_be_unschedulable(outcome.access):
        try:
            schedule_region(outcome.body, target)
            return outcome
        except Unschedulable as error:
            reduction = error.reason.reduction
            rewritten = positions.apply(outcome.body, reduction) if reduction is not None else None
            if rewritten is None:
                return error.reason
        body, steps = rewritten
        outcome = derive(body, (*outcome.steps, *steps))
    return outcome


@dataclass(frozen=True)
class _Move:
    """A change of boundaries: ``value`` stops being a buffer, ``instead`` (if any) becomes one."""

    value: Value
    instead: Value | None
    gain: float
    saved: int
    into: tuple[str, ...]


class _Search:
    def __init__(self, partition: Partition, ctx: PassContext) -> None:
        self.partition, self.ctx = partition, ctx
        self.heavy = [op.output for op in partition.graph.ops if is_heavy(op)]
        self.order = _post_dominators(partition.graph)
        self.refused: dict[Value, Reason] = {}

    def run(self) -> None:
        for _ in range(ROUNDS):
            moves = [
                move for value in reversed(self.heavy) if (move := self.best(value)) is not None and self.apply(move)
            ]
            if not moves:
                break
        self.share_light_values()
        for value in self.heavy:
            if value in self.partition.buffers and value not in self.partition.fixed:
                self.report_cut(value)

    def best(self, value: Value) -> _Move | None:
        """The boundary for ``value`` that gains most, if any gains."""
        p = self.partition
        if value not in p.buffers or value in p.fixed:
            return None
        readers = p.readers(value)
        before = [p.verdict(r, p.buffers) for r in (value, *readers)]
        best: _Move | None = None
        for instead in (None, *self.below(value)):
            move = self.price(value, instead, readers, before)
            if move is not None and (best is None or move.gain > best.gain):
                best = move
        return best

    def price(self, value: Value, instead: Value | None, readers: list[Value], before: list[Verdict]) -> _Move | None:
        p = self.partition
        if instead is None and len(readers) > 1:
            self.refused.setdefault(
                value, Reason("recompute", value, f"%{value.name} is read by {len(readers)} kernels")
            )
            return None
        buffers = p.buffers - {value} | ({instead} if instead else set())
        after = [p.verdict(r, buffers) for r in (*([instead] if instead else []), *readers)]
        blocked = next((v.reason for v in after if v.reason is not None), None)
        if blocked is not None:
            self.refused.setdefault(value, blocked)
            return None
        gain = sum(v.seconds for v in before) - sum(v.seconds for v in after)
        saved = sum(v.bytes for v in before) - sum(v.bytes for v in after)
        if gain <= 0:
            text = f"computing %{value.name} inside its reader takes {-gain * 1e6:.1f} us longer than storing it"
            self.refused.setdefault(value, Reason("cost", value, text))
            return None
        return _Move(value, instead, gain, saved, tuple(r.name for r in ([instead] if instead else readers)))

    def below(self, value: Value) -> Iterator[Value]:
        """Values that everything computed from ``value`` passes through, nearest first, before the next buffer."""
        p = self.partition
        current = self.order.get(value)
        while current is not None and current not in p.buffers and not is_heavy(p.producers[current]):
            if p.producers[current].name == "extern":
                return
            if not is_renaming(p.producers[current]):
                yield current
            current = self.order.get(current)

    def apply(self, move: _Move) -> bool:
        p = self.partition
        p.buffers.discard(move.value)
        if move.instead is not None:
            p.buffers.add(move.instead)
        values = (move.value.name, *move.into)
        reason = f"%{move.value.name} stays on chip: {move.gain * 1e6:.1f} us less by the model"
        self.ctx.ledger.add(
            "fused", rule="cost", values=values, reason=reason, bytes=move.saved, locs=[p.producers[move.value].loc]
        )
        return True

    def report_cut(self, value: Value) -> None:
        reason = self.refused.get(value)
        if reason is None:
            return
        p = self.partition
        locs = [p.producers[value].loc, *(p.producers[reason.value].loc for _ in (0,) if reason.value in p.producers)]
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
        every head). The last such value is taken first: behind a cast it is smaller."""
        p = self.partition
        for op in reversed(p.graph.ops):
            value = op.outputs[0] if op.outputs else None
            if value is None or value in p.buffers or op.name not in ("pointwise", "cast", "concat"):
                continue
            if not self.is_repeated(value):
                continue
            readers = p.readers(value)
            before = [p.verdict(r, p.buffers) for r in readers]
            buffers = p.buffers | {value}
            after = [p.verdict(r, buffers) for r in (value, *readers)]
            gain = sum(v.seconds for v in before) - sum(v.seconds for v in after)
            if all(v.reason is None for v in after) and gain > 0:
                p.buffers.add(value)
                text = f"%{value.name} is stored: computing it where it is read takes {gain * 1e6:.1f} us longer"
                self.ctx.ledger.add("cut", rule="cost", values=(value.name,), reason=text, locs=[op.loc])

    def is_repeated(self, value: Value) -> bool:
        uses = self.uses(value)
        spread = max(uses, default=0) >= 8 * likely(value.type.numel)
        return (spread or len(uses) > 1) and self.flops(value) >= CHEAP_FLOPS

    def uses(self, value: Value) -> list[int]:
        """For each op that computes with ``value``, behind views and casts, how many elements it gives."""
        found: list[int] = []
        for user in self.partition.users.get(value, ()):
            for out in user.outputs:
                seen_through = user.name == "cast" or is_renaming(user)
                found += self.uses(out) if seen_through else [likely(out.type.numel)]
        return found

    def flops(self, value: Value) -> int:
        ops, _ = self.partition.cone(value)
        return sum(SCALARS[op.attrs["fn"]].flops for op in ops if op.name == "pointwise")


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


def build_regions(partition: Partition, ctx: PassContext) -> Graph:
    """The graph of region and extern ops that the partition describes."""
    graph = partition.graph
    ops: list[Op] = []
    names: set[str] = set()
    for op in graph.ops:
        if op.name == "extern":
            ops.append(op)
        for root in (v for v in op.outputs if v in partition.buffers and op.name != "extern"):
            verdict = partition.verdict(root, partition.buffers)
            body = verdict.derivation.body if verdict.derivation else partition.body(root)
            if verdict.derivation and verdict.derivation.steps:
                ctx.derivations.append(verdict.derivation)
            name = unique_name(region_name(body), names)
            names.add(name)
            attrs = freeze_attrs({"name": name})
            ops.append(Op("region", body.inputs, (root,), attrs, (replace(body, name=name),), op.loc))
    return replace(graph, ops=tuple(ops))


def region_name(body: Graph) -> str:
    """A readable kernel name: what the region does, after its heaviest op, and the module it stands in."""
    kinds = [op.name if op.name == "contract" else str(op.attrs["fn"]) for op in body.ops if is_heavy(op)]
    last = body.ops[-1]
    what = "_".join(dict.fromkeys(kinds)) or (str(last.attrs["fn"]) if last.name == "pointwise" else last.name)
    modules = [m for op in body.ops if (m := _last_part(op.loc.module))]
    return "_".join((*list(dict.fromkeys(modules))[-1:], what))


def _last_part(module: str) -> str:
    part = module.rsplit(".", 1)[-1]
    return part if part.isidentifier() else ""
