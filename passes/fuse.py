"""Pass ``fuse``: which values become buffers, hence which ops share a kernel.

A region is the cone of ops between one buffer and the buffers it reads. The pass starts with every reduction's and
contraction's result as a buffer (or what several read that follows from it, such as a residual stream) and moves these
boundaries while ``derive`` allows it and the cost model gains: away (the reduction is computed inside its reader) or
down to a value that everything read from it passes through (an epilogue). Whatever is decided goes into the ledger with
its price::

    %y = contract(%x, %w)                     region { %y = contract(%x, %w)
    %z = pointwise.maximum(%y, 0)     ->               %z = pointwise.maximum(%y, 0) }
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.core import Graph, Op, freeze_attrs, unique_name
from rooftile.ir.structure import Structure, Structures
from rooftile.passes.base import PassContext
from rooftile.passes.extensions import REDUCTION_RULES
from rooftile.passes.fusion.again import compute_again
from rooftile.passes.fusion.calls import Calls
from rooftile.passes.fusion.facts import without_facts
from rooftile.passes.fusion.joining import join
from rooftile.passes.fusion.partition import Partition, is_heavy
from rooftile.passes.fusion.resweep import Swept
from rooftile.passes.fusion.search import Search
from rooftile.passes.fusion.together import compute_together
from rooftile.passes.launches import operands_first
from rooftile.passes.rules.steps import Step


@dataclass(frozen=True)
class Fuse:
    """Partitions the graph into regions."""

    name: ClassVar[str] = "fuse"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with every op but externs inside a region."""
        if all(op.name in ("region", "extern") for op in graph.ops):
            return graph
        calls = Calls.of(graph)
        partition = Partition(without_facts(graph), ctx.target)
        search = Search(partition, ctx)
        search.run()
        compute_together(partition, ctx)
        search.report_cuts()
        compute_again(partition, ctx)
        join(partition, ctx)
        return build_regions(partition, calls, ctx)


def build_regions(partition: Partition, calls: Calls, ctx: PassContext) -> Graph:
    """The graph of region and extern ops that the partition describes, with what is known of ``calls``."""
    graph = partition.graph
    ops: list[Op] = []
    names: set[str] = set()
    tapped = {v for taps in partition.taps.values() for v in taps}
    structures, swept_once = Structures(), set[Structure]()
    for op in graph.ops:
        if op.name == "extern":
            ops.append(op)
        for root in (v for v in op.outputs if v in partition.buffers - tapped and op.name != "extern"):
            verdict = partition.verdict(root, partition.buffers)
            body = verdict.derivation.body if verdict.derivation else partition.body(root)
            if verdict.derivation and verdict.derivation.steps:
                ctx.derivations.append(verdict.derivation)
                report_registered(verdict.derivation.steps, op, ctx)
            if (alike := structures.of(body)) not in swept_once and not report_rereads(body, op, ctx):
                swept_once.add(alike)
            name = unique_name(region_name(body), names)
            names.add(name)
            attrs = freeze_attrs({"name": name, **calls.attrs(body.inputs, body.outputs)})
            ops.append(Op("region", body.inputs, body.outputs, attrs, (replace(body, name=name),), op.loc))
    return replace(graph, ops=tuple(operands_first(ops) if tapped else ops))


def report_registered(steps: Sequence[Step], root: Op, ctx: PassContext) -> None:
    """Enter the steps that are by a program's own rules."""
    for step in steps:
        if step.rule in REDUCTION_RULES:
            reason = f"{step.before} becomes {step.after}"
            ctx.ledger.add("rewritten", rule=step.rule, values=[root.outputs[-1].name], reason=reason, locs=[root.loc])


def report_rereads(body: Graph, root: Op, ctx: PassContext) -> int:
    """Enter every sweep over a row beyond the first, and say how many there are."""
    found = Swept.of(body, ctx.target).rereads() if any(map(is_heavy, body.ops)) else []
    for again in found:
        ctx.ledger.add(
            "recomputed",
            rule=again.rule,
            values=(again.read.value.name,),
            reason=again.text,
            bytes=-again.bytes,
            locs=[root.loc],
        )
    return len(found)


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
