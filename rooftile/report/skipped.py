"""The arithmetic that a kernel is spared by the steps that its masks leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from rooftile.ir.core import Graph
from rooftile.ir.expr import Size
from rooftile.ir.scalar import SCALARS
from rooftile.ir.schedule import Schedule
from rooftile.ir.substitution import evaluate
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.space import space_of
from rooftile.report.accounting import Work
from rooftile.report.data import Loop


def without_skipped(
    work: Work, body: Graph, schedule: Schedule, loops: Sequence[Loop], sizes: Mapping[str, int]
) -> Work:
    """``work`` less what would be computed in the steps that are left out; all of it where no step is, or where the
    data decide."""
    shares = {
        loop.axis: loop.visited / loop.total
        for loop in loops
        if isinstance(loop.visited, int) and isinstance(loop.total, int) and loop.visited < loop.total
    }
    if not shares:
        return work
    access = compose(body, space_of(schedule))
    extents = {name: evaluate(extent, sizes) for name, extent in access.axes.items()}
    dots = set(contractions(access))
    others = [read for read, node in access.nodes.items() if node.op is not None and read not in dots]
    return replace(
        work,
        matmul_flops=_scaled(work.matmul_flops, _share(access, dots, extents, shares), sizes),
        scalar_flops=_scaled(work.scalar_flops, _share(access, others, extents, shares), sizes),
    )


def _share(access: Access, reads: Iterable[Read], extents: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """How much of what these reads take is done: what varies over a swept axis is computed in its steps only."""
    all_of_it, done = 0.0, 0.0
    for read in reads:
        axes = access.free[read] | set(access.nodes[read].bound)
        flops = _flops(access, read) * prod(extents[name] for name in axes)
        all_of_it += flops
        done += flops * prod(shares.get(name, 1.0) for name in axes)
    return done / all_of_it if all_of_it else 1.0


def _flops(access: Access, read: Read) -> int:
    op = access.nodes[read].op
    return SCALARS[op.attrs["fn"]].flops if op is not None and op.name == "pointwise" else 1


def _scaled(size: Size, share: float, sizes: Mapping[str, int]) -> Size:
    return size if share == 1.0 else round(evaluate(size, sizes) * share)
