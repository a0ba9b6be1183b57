"""The phases of a sweep: the ranges of steps that are run, and what is known to hold in each.

A causal mask makes two: the steps before the tile's first row run without the mask, those along the diagonal with it;
the rest is not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rooftile.ir.expr import axis as axis_of
from rooftile.passes.masks.predicates import All, AtLeast, Predicates, is_known
from rooftile.passes.masks.ranges import Bound, Range, Sweep, bound_text, greatest, is_empty, least
from rooftile.passes.masks.skipping import skipping
from rooftile.passes.masks.values import Interval
from rooftile.passes.regions.access import Access, Read
from rooftile.passes.rules.steps import Step


@dataclass(frozen=True)
class Phase:
    """Steps of a sweep that are run by one loop; ``name`` is for the reader.

    ``ranges`` are where they lie (None: every step). In each of them the values ``settled`` are what that says, and
    the step is ``full``, within the axis's extent. The phase is left out by programs whose states lie in ``unless``.
    """

    name: str
    ranges: tuple[Range, ...] | None
    settled: Mapping[Read, float] = field(default_factory=dict)
    full: bool = False
    unless: Mapping[Read, Interval] = field(default_factory=dict)


EVERY_STEP = Phase("all", None)


def skip_step(access: Access, members: Sequence[Read], axis: str, phases: Sequence[Phase]) -> Step:
    """The application of rule Skip: which steps of the sweep over ``axis`` are left."""
    names = ", ".join(f"%{m.value.name}" for m in members)
    return Step("skip", f"{names} over every {axis} < {access.axes[axis]}", "; ".join(_phase_text(p) for p in phases))


def _phase_text(phase: Phase) -> str:
    ranges = " and ".join(f"{bound_text(first)} .. {bound_text(stop)}" for first, stop in phase.ranges or ())
    conditions = ", ".join(_settled_text(read, value) for read, value in phase.settled.items())
    unless = " and ".join(f"%{r.value.name} has reached {level[0]}" for r, level in phase.unless.items())
    text = f"{phase.name}: {ranges}" + (f" where {conditions}" if conditions else "")
    return text + (f" unless {unless}" if unless else "")


def _settled_text(read: Read, value: float) -> str:
    if read.value.dtype.kind == "bool":
        return f"%{read.value.name}" if value else f"not %{read.value.name}"
    return f"%{read.value.name} is {value:g}"


def plan_phases(
    access: Access, members: Sequence[Read], axis: str, tile: int, *, split: bool
) -> tuple[list[Phase], Predicates]:
    """The phases of the sweep over ``axis`` that the reductions ``members`` share, and what the bounds are made of.

    ``split`` makes a phase of its own of the steps in which the mask holds throughout.
    """
    predicates = Predicates(access)
    found = skipping(access, members, axis, predicates)
    if found is None:
        return [EVERY_STEP], predicates
    extent = access.axes[axis]
    sweep = Sweep(predicates, axis, extent, tile, throughout=False)
    visited, stop = sweep.ranges(found.live), sweep.stop
    known = [mask for mask in found.masks.values() if is_known(mask.bare)] if split else []
    settled = {mask.read: mask.neutral for mask in known}
    certain: list[Range] = []
    if known:
        within = AtLeast(extent - axis_of(axis, extent) - 1)
        certain = replace(sweep, throughout=True).ranges(All((*(mask.bare for mask in known), within)))
    bare, masked = _split(visited, certain)
    if not bare and masked == [(0, stop)]:
        return [EVERY_STEP], predicates
    phases = [Phase("bare", tuple(bare), settled, full=True)] if bare else []
    phases += [Phase("masked", tuple(masked))] if masked else []
    skipped = _between(visited, stop)
    if found.reached and skipped:
        phases.append(Phase("rest", tuple(skipped), unless=found.reached))
    return phases, predicates


def _split(visited: list[Range], certain: list[Range]) -> tuple[list[Range], list[Range]]:
    """The ranges to be run without the mask and those to be run with it, which together are ``visited``.

    The mask is left out in what the last visited range has in common with the last certain one.
    """
    if not visited or not certain:
        return [], visited
    (first, stop), (from_, to) = visited[-1], certain[-1]
    middle = (greatest(first, from_), least(stop, to))
    if is_empty(middle):
        return [], visited
    around = [*visited[:-1], (first, least(stop, from_)), (greatest(first, from_, to), stop)]
    return [middle], [each for each in around if not is_empty(each)]


def _between(visited: list[Range], stop: Bound) -> list[Range]:
    """The steps before ``stop`` that lie in none of the ranges ``visited``, which are in order and may be empty."""
    gaps: list[Range] = []
    reached: Bound = 0
    for first, end in visited:
        gaps.append((reached, least(first, stop)))
        reached = greatest(reached, first, end)
    return [gap for gap in [*gaps, (reached, stop)] if not is_empty(gap)]
