"""``derive``: may one kernel compute a region, and by which steps?

The answer is a ``Derivation`` (the steps that make it legal; none where it is so as written) or a ``Reason`` that names
the value that blocks and the rule
that would be needed. Nothing here knows a sequence of ops: what is asked is where each reduction's axes go.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from rooftile.ir.core import Value
from rooftile.ir.expr import Size, product
from rooftile.passes.access import Access, Read
from rooftile.passes.space import contractions
from rooftile.passes.tile import likely

MOST_ACCUMULATORS = 4


@dataclass(frozen=True)
class Step:
    """One application of a rule: the value before and after, as text."""

    rule: str
    before: str
    after: str


@dataclass(frozen=True)
class Derivation:
    """How a region became one kernel; ``value`` is what it computes."""

    value: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Why a region can't be one kernel: ``rule`` is what would be needed, ``value`` what blocks."""

    rule: str
    value: Value
    text: str


def derive(access: Access) -> Derivation | Reason:
    """Whether the region, as accesses, is one kernel."""
    dots = contractions(access)
    for check in (_contraction_chains, _one_grid, _no_recomputed_contraction) if dots else (_reduction_nesting,):
        reason = check(access, dots)
        if reason is not None:
            return reason
    return Derivation(access.body.outputs[-1].name)


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


def _contraction_chains(access: Access, dots: list[Read]) -> Reason | None:
    """A contraction and another reduction share a kernel only side by side."""
    for outer in access.reductions():
        for inner in below(access, outer):
            if access.nodes[inner].bound and (inner in dots or outer in dots):
                axes = ", ".join(access.nodes[outer].bound)
                text = f"the reduction %{outer.value.name} over {axes} reads %{inner.value.name}, itself a reduction: one sweep needs Correct"
                return Reason("correct", inner.value, text)
    return None


def _one_grid(access: Access, dots: list[Read]) -> Reason | None:
    """All contractions of a kernel have the same result axes, and the stores run over these and no others."""
    grid = access.free[dots[0]]
    for read in access.reductions():
        if access.free[read] != grid:
            text = (
                f"%{read.value.name} varies over {sorted(access.free[read])}, %{dots[0].value.name} over {sorted(grid)}"
            )
            return Reason("split", read.value, text)
    if len(dots) > MOST_ACCUMULATORS:
        return Reason("split", dots[0].value, f"{len(dots)} contractions at once, {MOST_ACCUMULATORS} at most")
    return None


def _no_recomputed_contraction(access: Access, dots: list[Read]) -> Reason | None:
    """The tiles of a contraction that the region reads are together no more than its result."""
    wanted: dict[Value, Size] = {}
    for read in dots:
        work = product([access.axes[a] for a in access.free[read]])
        wanted[read.value] = wanted.get(read.value, 0) + work
    for value, work in wanted.items():
        if likely(work) > likely(value.type.numel):
            return Reason(
                "recompute", value, f"%{value.name} has {value.type.numel} elements and would be computed for {work}"
            )
    rest = set(access.axes) - access.free[dots[0]] - {a for r in access.reductions() for a in access.nodes[r].bound}
    if prod(likely(access.axes[a]) for a in rest) > 1:
        return Reason(
            "recompute", dots[0].value, f"%{dots[0].value.name} would be computed again along {', '.join(sorted(rest))}"
        )
    return None


def _reduction_nesting(access: Access, _: list[Read]) -> Reason | None:
    """A position is only known where one tile holds the whole axis; every other chain of reductions can take a sweep
    each."""
    return None
