"""Which sweep over an axis computes which reduction.

A reduction that depends on another over the same axis takes the next sweep, unless rule Correct lets it share that
one's: then it takes the same, and its state is corrected as the other's changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rooftile.passes.regions.access import Access, Read
from rooftile.passes.rules.correct import Correction, corrections, dependencies


@dataclass(frozen=True)
class Sweeps:
    """The sweeps over a region's ``loop`` axes.

    ``access`` is the region with the sums that corrections need besides. ``number`` says in which sweep over its axis a
    reduction runs, from 0; ``level`` for every read how many sweeps over each axis must have ended before it can be
    computed; ``corrected`` how a state that shares the sweep of what it depends on is kept right; ``blocked`` where
    that ends for a state that doesn't; ``depends`` the swept reductions below each read.
    """

    access: Access
    number: dict[Read, dict[str, int]]
    level: dict[Read, dict[str, int]]
    corrected: dict[Read, Correction]
    blocked: dict[Read, Read]
    depends: dict[Read, frozenset[Read]]

    def count(self, name: str) -> int:
        """How many sweeps over the axis compute its reductions."""
        return max((n[name] + 1 for n in self.number.values() if name in n), default=0)

    def late(self) -> list[Read]:
        """The reductions that wait for another sweep over their axis to end."""
        return [read for read, numbers in self.number.items() if any(numbers.values())]


def plan_sweeps(access: Access, loops: Iterable[str]) -> Sweeps:
    """The sweeps that compute every reduction over the axes ``loops``, as few as the rules allow."""
    swept = frozenset(loops)
    corrected: dict[Read, Correction] = {}
    blocked: dict[Read, Read] = {}
    for name in sorted(swept):
        along = corrections(access, name)
        access = along.access
        corrected |= along.found
        blocked |= along.blocked
    number: dict[Read, dict[str, int]] = {}
    level: dict[Read, dict[str, int]] = {}
    for read, node in access.nodes.items():
        mine: dict[str, int] = {}
        for needed in (*node.operands, *access.index_reads(read).values()):
            for name, sweeps in level[needed].items():
                mine[name] = max(mine.get(name, 0), sweeps)
        for name in swept.intersection(node.bound):
            first = _shared_sweep(corrected.get(read), name, number)
            if first is None:
                corrected.pop(read, None)
                first = mine.get(name, 0)
            number[read] = {name: first}
            mine[name] = first + 1
        level[read] = mine
    over = [r for r in access.reductions() if swept & set(access.nodes[r].bound)]
    return Sweeps(access, number, level, corrected, blocked, dependencies(access, over))


def _shared_sweep(correction: Correction | None, name: str, number: Mapping[Read, Mapping[str, int]]) -> int | None:
    """The sweep over axis ``name`` that a corrected state shares with its references, a position with its extreme; None
    where the sums that correct it are complete by then."""
    if correction is None:
        return None
    if correction.extreme is not None:
        return number[correction.extreme][name]
    first = max((number[r][name] for r in correction.references), default=0)
    return first if all(number[moment.sum][name] == first for moment in correction.moments) else None
