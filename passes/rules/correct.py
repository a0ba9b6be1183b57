"""Rule Correct: a running result stays right when another running result, which it was computed with, changes.

Where a reduction's operand is ``F(x, r)`` and ``r`` a function of reductions over the same axis, one sweep computes
both if ``F(x, r') = C(r, r') * F(x, r)`` and the combine distributes over ``C``: the state so far is multiplied by
``C`` (or has it added), then the next tile goes in with the new ``r``. With ``F = exp(x - r)`` this is the online
softmax. ``F`` may be several functions at once, and ``C`` then is a matrix: with ``F = (1, x - r, (x - r)^2)`` this is
Chan's formula for mean and variance. How values change is found by ``changes``, sums that the body lacks are added by
``moments``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from rooftile.ir.core import UNKNOWN, Loc
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.regions.access import Access, Read, joined, number_of
from rooftile.passes.rules.changes import (
    Factor,
    Fixed,
    Joint,
    Other,
    Part,
    Shift,
    Term,
    Terms,
    Walk,
    behind_views,
    reads_of,
)
from rooftile.passes.rules.changes import product as product_of
from rooftile.passes.rules.moments import Extension
from rooftile.passes.rules.steps import Step
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Moment:
    """What a correction adds: the state of ``sum``, times what each of ``differences`` grew by, ``times`` over."""

    sum: Read
    differences: tuple[Terms, ...]
    times: int = 1


@dataclass(frozen=True)
class Correction:
    """How a state follows its references, the reductions that its operand is computed from.

    It has what ``terms`` grew by added (``kind`` is ``"shift"``), or every one of ``moments``, and is then multiplied
    by all ``parts`` (``"factor"``). A position (rule Merge) is another one where ``extreme`` changes.
    """

    parts: tuple[Part, ...] = ()
    terms: Terms = ()
    moments: tuple[Moment, ...] = ()
    references: frozenset[Read] = frozenset()
    extreme: Read | None = None

    @property
    def kind(self) -> Literal["shift", "factor"]:
        return "shift" if self.terms else "factor"

    @property
    def scales(self) -> frozenset[Read]:
        """The reads that the operand is divided or multiplied by, and which so must not be zero."""
        return frozenset(read for part in self.parts if not part.fn for read in reads_of(part.terms))


@dataclass(frozen=True)
class Corrected:
    """The reductions over one axis as one sweep computes them: ``access`` has the sums that corrections need besides,
    ``found`` the corrections, ``blocked`` where the rule ends for the reductions that have none."""

    access: Access
    found: dict[Read, Correction]
    blocked: dict[Read, Read]


def corrections(access: Access, name: str) -> Corrected:
    """The reductions over axis ``name`` that depend on others over it, and can run in the same sweep as these by being
    corrected."""
    grown = Extension(access, name)
    found: dict[Read, Correction] = {}
    blocked: dict[Read, Read] = {}
    waiting = [r for r in access.reductions() if name in access.nodes[r].bound]
    known = set(waiting)
    for read in waiting:
        if is_position(grown.access, read) and len(grown.access.nodes[read].bound) == 1:
            found[read] = Correction(extreme=grown.extreme(read))
            continue
        if not any(grown.depends[o] for o in grown.access.nodes[read].operands):
            continue
        outcome = _combine(grown, read, Walk(grown.access, name, grown.depends))
        if isinstance(outcome, Correction) and not permitted("correct", read.value, _loc(grown.access, read)):
            blocked[read] = read
        elif isinstance(outcome, Correction):
            found[read] = outcome
            added = [m.sum for m in outcome.moments if m.sum not in known]
            waiting += added
            known.update(added)
        else:
            blocked[read] = outcome.read
    return _consistent(grown, found, blocked)


def _loc(access: Access, read: Read) -> Loc:
    op = access.nodes[read].op
    return UNKNOWN if op is None else op.loc


def _consistent(grown: Extension, found: dict[Read, Correction], blocked: dict[Read, Read]) -> Corrected:
    """The corrections without those that need another state which can't be kept, or a reference both as a scale and
    otherwise."""
    scales = {reduction for c in found.values() for s in c.scales for reduction in grown.depends[s]}
    for read, correction in found.items():
        plain = {r for t in differences(correction) for each in reads_of(t) for r in grown.depends[each]}
        if plain & scales:
            blocked.setdefault(read, min(plain & scales, key=lambda r: r.value.name))
    while late := [r for r, c in found.items() if r in blocked or any(m.sum in blocked for m in c.moments)]:
        for read in late:
            blocked.setdefault(read, read)
            del found[read]
    wanted = {m.sum for c in found.values() for m in c.moments} | {c.extreme for c in found.values() if c.extreme}
    if not found:
        return Corrected(grown.original, {}, blocked)
    access = grown.finished(wanted)
    depends = dependencies(access, [r for r in access.reductions() if grown.name in access.nodes[r].bound])
    complete = {
        r: replace(c, references=_references(access, r, depends)) for r, c in found.items() if r in access.nodes
    }
    return Corrected(access, complete, blocked)


def _references(access: Access, read: Read, depends: Mapping[Read, frozenset[Read]]) -> frozenset[Read]:
    return frozenset().union(*(depends[o] for o in access.nodes[read].operands))


def differences(correction: Correction) -> Iterable[Terms]:
    """What stands in shifts, moments and exponents."""
    yield correction.terms
    yield from (part.terms for part in correction.parts if part.fn)
    yield from (terms for moment in correction.moments for terms in moment.differences)


def dependencies(access: Access, reductions: list[Read]) -> dict[Read, frozenset[Read]]:
    """Which of ``reductions`` each read is computed from."""
    chosen = set(reductions)
    depends: dict[Read, frozenset[Read]] = {}
    for read, node in access.nodes.items():
        needed = (*node.operands, *access.index_reads(read).values()) if access.indirect else node.operands
        mine = joined([depends[o] for o in needed])
        depends[read] = mine | {read} if read in chosen else mine
    return depends


def _combine(grown: Extension, read: Read, walk: Walk) -> Correction | Other:
    """The correction of a reduction's state from how its operands change."""
    node = grown.access.nodes[read]
    assert node.op is not None
    changes = [walk.change(o) for o in node.operands]
    change = Other(read) if walk.varies(changes, node.bound) else product_of(read, changes)
    if isinstance(change, Other):
        return change
    if node.op.name == "contract" or node.op.attrs["fn"] == "sum":
        return Other(read) if node.cases else _corrected_sum(grown, read, change)
    whole, both = SCALARS[COMBINES[node.op.attrs["fn"]].scalar], frozenset({0, 1})
    if is_position(grown.access, read):
        return Other(read)
    if isinstance(change, Factor) and both in whole.homogeneous:
        return Correction(change.parts)
    if isinstance(change, Joint) and both in whole.shifted and change.leaves[0].path == (0,):
        return Correction(terms=change.leaves[0].terms)
    return Other(read)


def _corrected_sum(grown: Extension, read: Read, change: Fixed | Shift | Factor | Joint) -> Correction | Other:
    """The correction of a sum of products: with every set of shifted operands left out, a moment."""
    if isinstance(change, Factor):
        return Correction(change.parts)
    if not isinstance(change, Joint) or not read.value.dtype.is_float:
        return Other(read)
    for leaf in change.leaves:
        for reference in reads_of(leaf.terms):
            grown.count_extents(reference)
    times: dict[tuple[Read, tuple[Terms, ...]], int] = {}
    for count in range(1, len(change.leaves) + 1):
        for left_out in combinations(change.leaves, count):
            rest = grown.without(read, [leaf.path for leaf in left_out])
            moment = rest, tuple(leaf.terms for leaf in left_out)
            times[moment] = times.get(moment, 0) + 1
    moments = tuple(Moment(*moment, n) for moment, n in times.items())
    return Correction(change.parts, moments=moments)


def is_position(access: Access, read: Read) -> bool:
    """Whether ``read`` says where an extreme stands."""
    op = access.nodes[read].op
    return op is not None and op.name == "reduce" and COMBINES[op.attrs["fn"]].position


def step(access: Access, read: Read, correction: Correction) -> Step:
    """The application of the rule to one reduction, as formulas: its state before and after a reference changes."""
    name, formulas = f"%{read.value.name}", _Formulas(access)
    if correction.extreme is not None:
        after = f"one sweep: where %{correction.extreme.value.name} changes, {name} becomes the position in that tile"
        return Step("merge", f"{name} in a tile that holds all positions", after)
    of = " or ".join(sorted(f"%{r.value.name}" for r in correction.references))
    after = " + ".join((name, *map(formulas.moment, correction.moments)))
    after += f" + ({formulas.difference(correction.terms)})" if correction.terms else ""
    if correction.parts:
        parts = " * ".join(formulas.part(p) for p in correction.parts)
        after = f"({after}) * {parts}" if correction.moments else f"{after} * {parts}"
    before = f"{name} in a sweep after that of {of}".replace(" or ", " and ")
    return Step("correct", before, f"one sweep: when {of} changes, {name} becomes {after}")


class _Formulas:
    """Corrections as text: ``%m'`` is what ``%m`` has become."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def moment(self, moment: Moment) -> str:
        """A summand."""
        factors = (*(f"({self.difference(d)})" for d in moment.differences), f"%{moment.sum.value.name}")
        return " * ".join((*((str(moment.times),) if moment.times > 1 else ()), *factors))

    def part(self, part: Part) -> str:
        """A factor."""
        if part.fn:
            text = f"{part.fn}({self.difference(part.terms)})"
        else:
            (term,) = part.terms
            (name,) = (self.name(r) for r in term.reads)
            text = f"({name}' / {name})" if term.sign > 0 else f"({name} / {name}')"
        for fn, operand in part.through:
            text = f"{fn}({text}{'' if operand is None else f', {self.name(operand)}'})"
        return text

    def difference(self, terms: Terms) -> str:
        """What the sum of ``terms`` grew by."""
        return " ".join(self._grown(t) for t in terms).removeprefix("+ ")

    def _grown(self, term: Term) -> str:
        new, old = self._product(term, "'"), self._product(term, "")
        return f"+ {new} - {old}" if term.sign > 0 else f"+ {old} - {new}"

    def _product(self, term: Term, mark: str) -> str:
        text = " * ".join(self.name(r) + mark for r in term.reads)
        return " / ".join((text, *(self.name(r) + mark for r in term.divisors)))

    def name(self, read: Read) -> str:
        """The value that ``read`` is, behind views; a number as it is."""
        read = behind_views(self.access, read)
        number = number_of(self.access.nodes[read])
        return f"%{read.value.name}" if number is None else f"{number:g}"
