"""Which sweep over an axis computes which reduction.

A reduction that depends on another over the same axis takes the next sweep, unless rule Correct lets it share that
one's: then it takes the same, and its
state is corrected as the other's changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rooftile.passes.regions.access import Access, Read
from rooftile.passes.rules.correct import Correction, corrections, dependencies


@dataclass(frozen=True)
class Sweeps:
    """The sweeps over a region's ``loop`` axes.

    ``number`` says in which sweep over its axis a reduction runs, from 0; ``level`` for every read how many sweeps over
    each axis must have ended before it can be
    computed; ``corrected`` how a state that shares the sweep of what it depends on is kept right; ``depends`` the swept
    reductions below each read.
    """

    number: dict[Read, dict[str, int]]
    level: dict[Read, dict[str, int]]
    corrected: dict[Read, Correction]
    depends: dict[Read, frozenset[Read]]

    def count(self, name: str) -> int:
        """How many sweeps over the axis compute its reductions."""
        return max((n[name] + 1 for n in self.number.values() if name in n), default=0)


def plan_sweeps(access: Access, loops: Iterable[str]) -> Sweeps:
    """The sweeps that compute every reduction over the axes ``loops``, as few as the rules allow."""
    swept = frozenset(loops)
    corrected = {read: c for name in sorted(swept) for read, c in corrections(access, name).items()}
    number: dict[Read, dict[str, int]] = {}
    level: dict[Read, dict[str, int]] = {}
    for read, node in access.nodes.items():
        mine: dict[str, int] = {}
        for needed in (*node.operands, *access.index_reads(read).values()):
            for name, sweeps in level[needed].items():
                mine[name] = max(mine.get(name, 0), sweeps)
        for name in node.bound:
            if name in swept:
                reference = corrected[read].references if read in corrected else ()
                first = max((number[r][name] for r in reference), default=0) if reference else mine.get(name, 0)
                number[read] = {name: first}
                mine[name] = max(first + 1, mine.get(name, 0) if not reference else 0)
        level[read] = mine
    over = [r for r in access.reductions() if swept & set(access.nodes[r].bound)]
    return Sweeps(number, level, corrected, dependencies(access, over))
