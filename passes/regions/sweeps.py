"""Which sweep over an axis computes which reduction.

A reduction that depends on another over the same axis takes the next sweep, unless rule Correct lets it share that
one's: then it takes the same, and its state is corrected as the other's changes. ``placing`` keeps sweeps over several
axes in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rooftile.passes.regions.access import Access, Read
from rooftile.passes.regions.placing import Placing, root_axes
from rooftile.passes.rules.correct import Correction, corrections, dependencies


@dataclass(frozen=True)
class Sweeps:
    """The sweeps over a region's ``loop`` axes.

    ``access`` is the region with the sums that corrections need besides. ``number`` says in which sweep over its axis a
    reduction runs, from 0; ``level`` for every read how many sweeps over each axis must have ended before it can be
    computed, for a root: before it can be stored; ``corrected`` how a state that shares the sweep of what it depends on
    is kept right; ``blocked`` where that ends for a state that doesn't; ``behind`` the axis of a sweep that a reduction
    needs, and that needs the one which the reduction would be in; ``depends`` the swept reductions below each read.
    """

    access: Access
    number: dict[Read, dict[str, int]]
    level: dict[Read, dict[str, int]]
    corrected: dict[Read, Correction]
    blocked: dict[Read, Read]
    behind: dict[Read, str]
    depends: dict[Read, frozenset[Read]]

    def count(self, name: str) -> int:
        """How many sweeps over the axis compute its reductions."""
        return max((n[name] + 1 for n in self.number.values() if name in n), default=0)

    def total(self, name: str) -> int:
        """How many sweeps over the axis compute its reductions and store what varies along it."""
        along = (self.level[root] for _, root in self.access.roots if name in root_axes(self.access, root))
        return max(self.count(name), *(level.get(name, 0) + 1 for level in along), 0)

    def late(self) -> list[Read]:
        """The reductions that wait for another sweep over their axis to end."""
        return [read for read, numbers in self.number.items() if any(numbers.values())]


def plan_sweeps(access: Access, loops: Iterable[str]) -> Sweeps:
    """The sweeps that compute every reduction over the axes ``loops``, as few as the rules allow."""
    swept, original = frozenset(loops), access
    corrected: dict[Read, Correction] = {}
    blocked: dict[Read, Read] = {}
    for name in sorted(swept):
        along = corrections(access, name)
        access = along.access
        corrected |= along.found
        blocked |= along.blocked
    placing = Placing(access, swept, corrected)
    if len(placing.corrected) < len(corrected):
        access = _without_idle(access, original, placing.corrected)
    over = [r for r in access.reductions() if swept & set(access.nodes[r].bound)]
    number = {r: placing.number[r] for r in over}
    kept = {r: c for r, c in placing.corrected.items() if r in number}
    return Sweeps(access, number, placing.level, kept, blocked, placing.behind, dependencies(access, over))


def _without_idle(access: Access, original: Access, corrected: Mapping[Read, Correction]) -> Access:
    """``access`` without the sums that the ``original`` one lacks and that no correction adds."""
    wanted = set(original.nodes)
    for read, node in reversed(access.nodes.items()):
        correction = corrected.get(read, Correction()) if read in wanted else None
        if correction is not None:
            wanted.update(node.operands, access.index_reads(read).values(), (m.sum for m in correction.moments))
            wanted.update(() if correction.extreme is None else (correction.extreme,))
    return replace(access, nodes={read: node for read, node in access.nodes.items() if read in wanted})
