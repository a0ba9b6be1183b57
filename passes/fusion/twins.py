"""Regions that are alike are judged once, and so are those that read other parts of the same tensors."""

from __future__ import annotations

from dataclasses import replace

from rooftile.ir.core import Graph
from rooftile.ir.structure import Structures
from rooftile.passes.alike import Alike
from rooftile.passes.distinct import Distinct
from rooftile.passes.fusion.judge import Verdict, judge
from rooftile.passes.fusion.places import at_first_places
from rooftile.target import Target


class Twins:
    """The verdicts on regions for a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._judged: Distinct[Verdict] = Distinct(Structures())

    def judge(self, body: Graph) -> Verdict:
        """What ``body`` would be as a region."""
        verdict, like = self._judged.of(body, lambda: judge(body, self._target), shape=at_first_places(body))
        if like is None:
            return verdict
        return replace(verdict, like=like, anew=None if _at_the_same(like) else lambda: judge(body, self._target))


def _at_the_same(like: Alike) -> bool:
    """Whether slices of the one region start where those of the other do."""
    slices = ((a, b) for a, b in zip(like.old.ops, like.new.ops, strict=True) if a.name == "slice")
    return all(a.attrs["starts"] == b.attrs["starts"] for a, b in slices)
