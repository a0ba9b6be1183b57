"""``derive``: may one kernel compute a region, and by which steps?

The answer is a ``Derivation`` (the body to lower and the steps that led to it; none where it is legal as written) or a
``Reason`` that names the value that blocks and the rule that would be needed. Nothing here knows a sequence of ops:
what is asked is where each reduction's axes go, and the rules of ``passes/rules`` are tried on the reduction that is in
the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rooftile.ir.core import Graph, Op
from rooftile.ir.expr import symbols
from rooftile.passes.extensions import REDUCTION_RULES
from rooftile.passes.regions.access import Access
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.forms import Reason, as_chain, chain_form, matrix_form
from rooftile.passes.regions.ragged import loose_segments
from rooftile.passes.regions.space import region_access
from rooftile.passes.rules import correct, counts, gathers, linear, pieces
from rooftile.passes.rules.scales import Scales
from rooftile.passes.rules.steps import Step
from rooftile.passes.switches import permitted

MOST_STEPS = 16


@dataclass(frozen=True)
class Derivation:
    """How a region becomes one kernel: ``body`` computes ``value``, as ``steps`` (none: as written) derived it;
    ``access`` is the body composed."""

    value: str
    body: Graph
    access: Access
    steps: tuple[Step, ...]


def derive(body: Graph, steps: tuple[Step, ...] = ()) -> Derivation | Reason:
    """Whether ``body``, which ``steps`` led to, is one kernel; reductions are rewritten by the rules where that helps.

    Raises:
        NoCommonSpace: the body's outputs have no common iteration space.
    """
    access = region_access(body)[1]
    while loose := loose_segments(access):
        body, counted = counts.apply(body, loose[0].value)
        access, steps = region_access(body)[1], (*steps, *counted)
    while reasons := blocked(access):
        rewritten = _rewritten(body, reasons, access)
        if rewritten is None or len(steps) > MOST_STEPS:
            return reasons[-1]
        body, more = rewritten
        steps += more
        access = region_access(body)[1]
    return Derivation(body.outputs[-1].name, body, access, steps + corrected(access))


def _rewritten(body: Graph, reasons: tuple[Reason, ...], access: Access) -> tuple[Graph, tuple[Step, ...]] | None:
    """What the first rule that applies makes of ``body``."""
    attempts = _attempts(body, reasons, Scales(access))
    return next((attempt for attempt in attempts if attempt is not None and are_permitted(body, attempt[1])), None)


def _attempts(
    body: Graph, reasons: tuple[Reason, ...], scales: Scales
) -> Iterator[tuple[Graph, tuple[Step, ...]] | None]:
    yield from (_without_factors(body, r.reduction, scales) for r in reasons if r.reduction is not None)
    yield pieces.apply(body)
    yield from (gathers.apply(body, r.value) for r in reasons if r.rule == "recompute")
    for rule in REDUCTION_RULES.values():
        yield from (rule(body, r.reduction) for r in reasons if r.reduction is not None)


def _without_factors(body: Graph, op: Op, scales: Scales) -> tuple[Graph, tuple[Step, ...]] | None:
    """``body`` with invariant factors taken out of ``op``. A matrix product has them taken out even where they may be
    infinite, or terms that may be of either sign: its operand would have to be stored otherwise, while a row is only
    read again."""
    return linear.apply(body, op) if _has_own_axes(op) else linear.apply(body, op, False, scales.leaves)


def _has_own_axes(op: Op) -> bool:
    """Whether the result of ``op`` has an axis along which one operand is the same."""
    if op.name != "contract":
        return False
    along = [{s.name for expr in entries for s in symbols(expr)} for entries in op.attrs["maps"]]
    sizes = dict(op.attrs["axes"])
    return not {name for name in op.attrs["out"] if sizes[name] != 1} <= set.intersection(*along)


def are_permitted(body: Graph, steps: tuple[Step, ...]) -> bool:
    """Whether the rules of ``steps``, which lead to another body than ``body``, are to be carried out there."""
    return all(
        permitted(rule, body.outputs[-1], body.ops[-1].loc) for rule in dict.fromkeys(step.rule for step in steps)
    )


def blocked(access: Access) -> tuple[Reason, ...]:
    """Why the region can't be one kernel as it stands, once for each form that it can't take; empty where it can."""
    if not contractions(access):
        return ()
    matrix = matrix_form(access)
    chain = chain_form(access) if matrix is not None else None
    return (matrix, chain) if matrix is not None and isinstance(chain, Reason) else ()


def corrected(access: Access) -> tuple[Step, ...]:
    """The applications of rule Correct that the region's sweeps rest on."""
    chain = as_chain(access)
    applied = chain.sweeps.corrected if chain is not None else {}
    return tuple(correct.step(access, read, correction) for read, correction in applied.items())
