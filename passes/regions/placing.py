"""Every reduction and every store gets the sweep that computes it, so that no two sweeps need one another.

Where sums over two axes are computed from one another in turn, a sweep over one axis may need one over the other that
itself needs the first: ``sum(y - sum(x - sum(y)))``. What would close such a circle takes the next sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import networkx as nx

from rooftile.ir.expr import symbols
from rooftile.passes.regions.access import Access, Read, joined
from rooftile.passes.rules.correct import Correction


class Turn(NamedTuple):
    """A sweep over ``axis``, the one with this ``number`` from 0, in each step of sweeps over the axes ``around``."""

    axis: str
    number: int
    around: frozenset[str]


class Placing:
    """The sweeps over the axes ``swept`` as reads get them: ``number`` and ``level`` as in ``Sweeps``; ``corrected``
    without what shares no sweep with its references; ``behind``, where a sweep would have closed a circle, the axis of
    another one in that."""

    def __init__(self, access: Access, swept: frozenset[str], corrected: Mapping[Read, Correction]) -> None:
        self.access, self.swept, self.corrected = access, swept, dict(corrected)
        self.number: dict[Read, dict[str, int]] = {}
        self.level: dict[Read, dict[str, int]] = {}
        self.behind: dict[Read, str] = {}
        self._below: dict[Read, frozenset[Turn]] = {}
        self._needs = nx.DiGraph()
        for read in access.nodes:
            self._compute(read)
        for _, root in access.roots:
            self._store(root)

    def _compute(self, read: Read) -> None:
        """Place ``read``, behind what it is computed from."""
        node = self.access.nodes[read]
        operands = (*node.operands, *self.access.index_reads(read).values())
        level: dict[str, int] = {}
        for operand in operands:
            for name, ended in self.level[operand].items():
                level[name] = max(level.get(name, 0), ended)
        below = joined([self._below[o] for o in operands])
        around = self.access.free[read] & self.swept
        for name in (axis for axis in node.bound if axis in self.swept):
            turn = self._shared(read, Turn(name, 0, around), below)
            if turn is None:
                self.corrected.pop(read, None)
                turn = self._first(read, Turn(name, level.get(name, 0), around), below)
            self._take(turn, below)
            self.number.setdefault(read, {})[name] = turn.number
            level[name] = turn.number + 1
            below = frozenset({turn})
        self.level[read], self._below[read] = level, below

    def _store(self, root: Read) -> None:
        """Place a store, which may share the sweep of reductions."""
        axes = root_axes(self.access, root) & self.swept
        for name in sorted(axes):
            turn = Turn(name, self.level[root].get(name, 0), axes - {name})
            turn = self._first(root, turn, self._below[root])
            self._take(turn, self._below[root])
            self.level[root][name] = turn.number

    def _shared(self, read: Read, turn: Turn, below: frozenset[Turn]) -> Turn | None:
        """The sweep like ``turn`` that a corrected state shares with its references, a position with its extreme; None
        where it can't, one of these is no sum over the axis, or the sums that correct it are complete by then."""
        correction = self.corrected.get(read)
        if correction is None:
            return None
        references = correction.references if correction.extreme is None else {correction.extreme}
        sums = [moment.sum for moment in correction.moments]
        if any(turn.axis not in self.number[r] for r in (*references, *sums)):
            return None
        turn = turn._replace(number=max((self.number[r][turn.axis] for r in references), default=0))
        complete = any(self.number[r][turn.axis] != turn.number for r in sums)
        return turn if self._joins(read, turn, below) and not complete else None

    def _first(self, read: Read, turn: Turn, below: frozenset[Turn]) -> Turn:
        """The first sweep from ``turn`` on that can compute or store ``read``."""
        while not self._joins(read, turn, below):
            turn = turn._replace(number=turn.number + 1)
        return turn

    def _joins(self, read: Read, turn: Turn, below: frozenset[Turn]) -> bool:
        """Whether ``read``, which needs the sweeps ``below``, can be in ``turn``: none of them needs that."""
        for other in self._outside(turn, below):
            if turn in self._needs and nx.has_path(self._needs, other, turn):
                self.behind[read] = other.axis
                return False
        return True

    def _take(self, turn: Turn, below: frozenset[Turn]) -> None:
        """Note that ``turn`` needs the sweeps ``below``."""
        self._needs.add_node(turn)
        self._needs.add_edges_from((turn, other) for other in below - {turn})

    def _outside(self, turn: Turn, below: Iterable[Turn]) -> list[Turn]:
        """The sweeps ``below`` that must have ended before ``turn``; for those in its steps, what these need."""
        found: dict[Turn, None] = {}
        stack = sorted(below, key=lambda t: (t.axis, t.number))
        while stack:
            other = stack.pop()
            if other != turn and other not in found:
                found[other] = None
                stack.extend(self._needs.successors(other) if turn.axis in other.around else ())
        return [other for other in found if turn.axis not in other.around]


def root_axes(access: Access, root: Read) -> frozenset[str]:
    """The axes that the loops around the store of ``root`` run over."""
    return access.free[root] | {s.name for e in root.index for s in symbols(e) if s.extent is not None}
