"""``derive``: may one kernel compute a region, and by which steps?

The answer is a ``Derivation`` (the body to lower and the steps that led to it; none where it is legal as written) or a
``Reason`` that names the value that blocks
and the rule that would be needed. Nothing here knows a sequence of ops: what is asked is where each reduction's axes
go, and the rules of ``passes/rules``
are tried on the reduction that is in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, product
from rooftile.passes.access import Access, Read
from rooftile.passes.rules import linear
from rooftile.passes.rules.linear import Step
from rooftile.passes.space import contractions, main_contraction, region_access
from rooftile.passes.tile import likely

MOST_ACCUMULATORS = 4
MOST_STEPS = 16


@dataclass(frozen=True)
class Derivation:
    """How a region becomes one kernel: ``body`` computes ``value``, as ``steps`` (none: as written) derived it;
    ``access`` is the body composed."""

    value: str
    body: Graph
    access: Access
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Why a region can't be one kernel: ``rule`` is what would be needed, ``value`` what blocks, ``reduction`` the op
    that can't be swept as it stands."""

    rule: str
    value: Value
    text: str
    reduction: Op | None = None


def derive(body: Graph, steps: tuple[Step, ...] = ()) -> Derivation | Reason:
    """Whether ``body``, which ``steps`` led to, is one kernel; reductions are rewritten by the rules where that helps.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
    """
    access = region_access(body)[1]
    while (reason := blocked(access)) is not None:
        rewritten = linear.apply(body, reason.reduction) if reason.reduction is not None else None
        if rewritten is None or len(steps) > MOST_STEPS:
            return reason
        body, more = rewritten
        steps += more
        access = region_access(body)[1]
    return Derivation(body.outputs[-1].name, body, access, steps)


def blocked(access: Access) -> Reason | None:
    """Why the region can't be one kernel as it stands; None where it can."""
    dots = contractions(access)
    for check in (_chains, _one_grid, _no_recomputed_contraction) if dots else ():
        reason = check(access, dots)
        if reason is not None:
            return reason
    return None


def below(access: Access, read: Read) -> set[Read]:
    """Every read that ``read`` is computed from."""
    found: set[Read] = set()
    stack = list(access.nodes[read].operands)
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack.extend(access.nodes[current].operands)
            stack.extend(access.index_reads(current).values())
    return found


def _chains(access: Access, dots: list[Read]) -> Reason | None:
    """A contraction and another reduction share a kernel only side by side."""
    for outer in access.reductions():
        for inner in below(access, outer):
            if access.nodes[inner].bound and (inner in dots or outer in dots):
                axes = ", ".join(access.nodes[outer].bound)
                text = f"%{outer.value.name} sums over {axes} what depends on %{inner.value.name}, itself a reduction"
                return Reason("correct", inner.value, text, access.nodes[outer].op)
    return None


def _one_grid(access: Access, dots: list[Read]) -> Reason | None:
    """The contractions have the same result axes; a reduction to fewer axes rides along where it runs over the same
    summed axis."""
    main = main_contraction(access)
    grid, swept = access.free[main], set(access.nodes[main].bound)
    for read in access.reductions():
        rides = access.free[read] < grid and set(access.nodes[read].bound) <= swept
        if not rides and (read not in dots or access.free[read] != grid):
            axes, others = ", ".join(sorted(access.free[read])), ", ".join(sorted(grid))
            return Reason(
                "split", read.value, f"%{read.value.name} runs over ({axes}), %{main.value.name} over ({others})"
            )
    full = [read for read in dots if access.free[read] == grid]
    if len(full) > MOST_ACCUMULATORS:
        return Reason("split", main.value, f"{len(full)} contractions at once, {MOST_ACCUMULATORS} at most")
    return None


def _no_recomputed_contraction(access: Access, dots: list[Read]) -> Reason | None:
    """The tiles of a contraction that the region reads are together no more than its result."""
    wanted: dict[Value, Size] = {}
    for read in dots:
        work = product([access.axes[a] for a in access.free[read]])
        wanted[read.value] = wanted.get(read.value, 0) + work
    for value, work in wanted.items():
        if likely(work) > likely(value.type.numel):
            text = f"%{value.name} has {value.type.numel} elements and would be computed for {work}"
            return Reason("recompute", value, text)
    summed = {a for r in access.reductions() for a in access.nodes[r].bound}
    main = main_contraction(access)
    rest = set(access.axes) - access.free[main] - summed
    if prod(likely(access.axes[a]) for a in rest) > 1:
        text = f"%{main.value.name} would be computed again along {', '.join(sorted(rest))}"
        return Reason("recompute", main.value, text)
    return None
