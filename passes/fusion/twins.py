"""Regions that are alike are judged once: of identical layers, the first alone is composed, derived and priced."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rooftile.ir.core import Graph
from rooftile.ir.structure import Structure, Structures
from rooftile.passes.fusion.alike import Alike
from rooftile.passes.fusion.judge import Verdict, judge
from rooftile.passes.switches import Application, answered_alike, asked_by
from rooftile.target import Target


@dataclass(frozen=True)
class _Judged:
    """A region, its verdict, and what was asked on the way."""

    body: Graph
    verdict: Verdict
    asked: tuple[Application, ...]


class Twins:
    """The verdicts on regions for a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._structures = Structures()
        self._judged: dict[Structure, _Judged] = {}

    def judge(self, body: Graph) -> Verdict:
        """What ``body`` would be as a region."""
        structure = self._structures.of(body)
        twin = self._judged.get(structure)
        if twin is not None:
            like = Alike(twin.body, body)
            if answered_alike(twin.asked, like.name, body.ops[-1].loc):
                return replace(twin.verdict, like=like)
        verdict, asked = asked_by(lambda: judge(body, self._target))
        self._judged.setdefault(structure, _Judged(body, verdict, asked))
        return verdict
