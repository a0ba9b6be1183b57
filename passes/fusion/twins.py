"""Regions that are alike are judged once."""

from __future__ import annotations

from dataclasses import replace

from rooftile.ir.core import Graph
from rooftile.ir.structure import Structures
from rooftile.passes.distinct import Distinct
from rooftile.passes.fusion.judge import Verdict, judge
from rooftile.target import Target


class Twins:
    """The verdicts on regions for a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._judged: Distinct[Verdict] = Distinct(Structures())

    def judge(self, body: Graph) -> Verdict:
        """What ``body`` would be as a region."""
        verdict, like = self._judged.of(body, lambda: judge(body, self._target))
        return verdict if like is None else replace(verdict, like=like)
