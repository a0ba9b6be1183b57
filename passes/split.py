"""Pass ``split``: a sweep that too few programs run is cut into parts for programs of their own.

Where a grid would leave most of the device idle (few queries over a long cache, a long sum for few results), the
region becomes two: one gives the states of every part of the swept axis, the other merges them by the corrections that
the sweep itself rests on (rule Merge). What follows a sum is computed where it is merged::

    region {                              region {
      %m = reduce.max(%s[i, j], dims=[1])   %m_parts = reduce.max(%s[p, i, j], dims=[2])
      %e = exp(%s - %m)              ->     %e = exp(%s - %m_parts)
      %l = reduce.sum(%e, dims=[1])         %l_parts = reduce.sum(%e, dims=[2])
    }                                     }
                                          region {
                                            %m = reduce.max(%m_parts, dims=[0])
                                            %l = reduce.sum(%l_parts * exp(%m_parts - %m), dims=[0])
                                          }

A product is left whole where others that read the same can share its launch and fill the device with it.

It stands behind whatever rewrites a region's arithmetic, so that parts compute just what the whole did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from rooftile.ir.core import Graph, Op, freeze_attrs, unique_name
from rooftile.passes.alike import Alike
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.derive import Derivation
from rooftile.passes.distinct import Distinct
from rooftile.passes.ledger import Entry
from rooftile.passes.regions.access import NoCommonSpace, Space
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.forms import Unschedulable, as_chain, is_matrix
from rooftile.passes.regions.parts import obstacle, partial_bytes, swept
from rooftile.passes.regions.space import identify, region_access
from rooftile.passes.regions.sweeps import Sweeps, plan_sweeps
from rooftile.passes.rules.steps import Step
from rooftile.passes.schedules.choice import schedule_region
from rooftile.passes.splitting.copies import Cut, NotCut
from rooftile.passes.splitting.counts import parts_of_chain, parts_of_product
from rooftile.passes.splitting.neighbours import programs_beside
from rooftile.passes.splitting.regions import of_parts, split_region
from rooftile.passes.switches import permitted
from rooftile.target import Target


@dataclass(frozen=True)
class _Outcome:
    """The regions that were ``made`` of a region, which may be itself alone, and what was said about that."""

    op: Op
    made: tuple[Op, ...]
    entries: tuple[Entry, ...]
    derivations: tuple[Derivation, ...]

    def of_another(self, alike: Alike, op: Op, names: set[str]) -> _Outcome:
        """The same of ``op``, which is alike; ``names`` are those of the graph around."""
        made = (op,) if len(self.made) == 1 else self._made_of(alike, op, names)
        entries = (
            replace(e, values=tuple(map(alike.name, e.values)), reason=alike.text(e.reason)) for e in self.entries
        )
        sources = (op.loc.source,) if op.loc.source else ()
        derivations = (
            Derivation(op.outputs[-1].name, made[-1].regions[0], d.access, alike.steps(d.steps))
            for d in self.derivations
        )
        return _Outcome(op, made, tuple(replace(e, sources=sources) for e in entries), tuple(derivations))

    def _made_of(self, alike: Alike, op: Op, names: set[str]) -> tuple[Op, ...]:
        copies = alike.copies(names.union(v.name for v in op.regions[0].values()))
        copies.place((*self.op.inputs, *self.op.outputs), (*op.inputs, *op.outputs))
        made: list[Op] = []
        for each in self.made:
            added = str(each.attrs["name"]).removeprefix(str(self.op.attrs["name"]))
            name = str(op.attrs["name"]) + added
            attrs = freeze_attrs({**of_parts(op), "name": unique_name(name, names) if added else name})
            body = copies.graph(each.regions[0], str(attrs["name"]))
            made.append(Op("region", copies.values(each.inputs), copies.values(each.outputs), attrs, (body,), op.loc))
        names.update(v.name for each in made[:-1] for v in each.outputs)
        return tuple(made)

    def enter(self, ctx: PassContext) -> None:
        """Say all of it."""
        for entry in self.entries:
            ctx.ledger.enter(entry)
        ctx.derivations += self.derivations


@dataclass(frozen=True)
class Split:
    """Splits sweeps over programs: each into ``parts``, or (0) into as many as fill the target, where that pays.

    Parts that don't divide an axis are multiples of ``even`` positions.
    """

    name: ClassVar[str] = "split"
    parts: int = 0
    even: int = 128

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with two regions for each whose sweep is split."""
        names = {v.name for v in graph.values()} | {str(op.attrs["name"]) for op in graph.ops if op.name == "region"}
        known = Distinct[_Outcome](ctx.structures)
        beside = programs_beside(graph, ctx.target, ctx.structures)
        ops: list[Op] = []
        for op in graph.ops:
            if op.name != "region":
                ops.append(op)
                continue
            with working_on(op):
                more = beside.get(op, 0)
                outcome, alike = known.of(
                    op.regions[0], partial(self.outcome, op, names, ctx.target, more), ("roles" in op.attrs, more)
                )
            if alike is not None:
                outcome = outcome.of_another(alike, op, names)
            outcome.enter(ctx)
            ops += outcome.made
        return graph if len(ops) == len(graph.ops) else replace(graph, ops=tuple(ops))

    def outcome(self, op: Op, names: set[str], target: Target, beside: int = 0) -> _Outcome:
        """What ``op`` becomes, and what there is to be said of that; ``beside`` programs may share its launch."""
        ctx = PassContext(target)
        made = self.split(op, ctx, names, beside)
        return _Outcome(op, made, tuple(ctx.ledger), tuple(ctx.derivations))

    def split(self, op: Op, ctx: PassContext, names: set[str], beside: int = 0) -> tuple[Op, ...]:
        """The regions that ``op`` becomes: itself alone where its sweep is not split."""
        found = _sweep(op.regions[0]) if op.name == "region" and "roles" not in op.attrs else None
        if found is None:
            return (op,)
        sweeps, name = found
        count = self.parts or self.wanted(op, sweeps, name, names, ctx.target, beside)
        cut = Cut(sweeps.access.axes[name], count, self.even)
        if count < 2 or not permitted("", op.outputs[-1], op.loc):
            return (op,)
        regions, reason = _regions(op, sweeps, name, cut, names, ctx.target)
        values = [r.value.name for r in swept(sweeps.access, name)]
        if reason:
            text = f"the sweep over {name} is left to few programs: {reason}"
            ctx.ledger.add("cut", rule="merge", values=values, reason=text, locs=[op.loc])
            return (op,)
        price = 2 * cut.count * partial_bytes(sweeps, name)
        text = f"the sweep over {name} ({cut.extent}) is cut into {cut.count} parts, whose states are merged"
        ctx.ledger.add("split", rule="merge", values=values, reason=text, bytes=-price, locs=[op.loc])
        ctx.derivations.append(_derivation(regions[-1], sweeps, name, cut))
        return regions

    def wanted(self, op: Op, sweeps: Sweeps, name: str, names: set[str], target: Target, beside: int) -> int:
        """Into how many parts the sweep of a region is worth cutting."""
        body = op.regions[0]
        if not is_matrix(region_access(body)[1]):
            return parts_of_chain(body, sweeps, name, target)

        def parts(count: int) -> tuple[Op, ...]:
            return _regions(op, sweeps, name, Cut(extent, count, self.even), set(names), target)[0]

        extent = sweeps.access.axes[name]
        return parts_of_product(body, extent, parts, target, beside)


def _sweep(body: Graph) -> tuple[Sweeps, str] | None:
    """The one sweep of a region of reductions, of a chain, or of contractions side by side, and the axis that it runs
    over."""
    access = region_access(body)[1]
    loops: Sequence[str] = access.bound_axes()
    if contractions(access) and not is_matrix(access):
        chain = as_chain(access)
        loops = () if chain is None else chain.loops
    return (plan_sweeps(identify(body, Space())[1], loops), loops[0]) if len(loops) == 1 else None


def _regions(
    op: Op, sweeps: Sweeps, name: str, cut: Cut, names: set[str], target: Target
) -> tuple[tuple[Op, ...], str]:
    """The regions of the parts and of their merging; or none, and why."""
    reason = obstacle(sweeps, name)
    if reason:
        return (), reason
    try:
        regions = split_region(op, sweeps, name, cut, names)
        for each in regions:
            schedule_region(each.regions[0], target)
    except (NotCut, NoCommonSpace, Unschedulable) as error:
        return (), str(error)
    return (regions, "") if _sweep(regions[0].regions[0]) else ((), "its parts would be no one sweep")


def _derivation(merged: Op, sweeps: Sweeps, name: str, cut: Cut) -> Derivation:
    steps = []
    for read in swept(sweeps.access, name):
        correction, state = sweeps.corrected.get(read), f"%{read.value.name}"
        follows = ", ".join(sorted(f"%{r.value.name}" for r in correction.references)) if correction else ""
        after = f"{cut.count} parts of {cut.size}, merged"
        after += f" once each has followed {follows} to the whole's" if follows else ""
        steps.append(Step("merge", f"{state} over {name} ({cut.extent}) in one program", after))
    body = merged.regions[0]
    return Derivation(merged.outputs[-1].name, body, compose(body), tuple(steps))
