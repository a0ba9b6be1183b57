"""``rooftile bisect``: the one pass, rewrite or kernel that breaks what a user asks of the results.

The stages are asked in order, since each is a graph that the reference evaluates: the first that breaks the predicate
names the pass. Within the pass, rewrites are left out by name, then the applications of the one that matters are
carried out up to a number that is bisected: the n-th is the culprit if n - 1 of them are right and n are wrong. Where
every stage is right, kernels are run one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import torch

from rooftile.accuracy import promised
from rooftile.blame.culprit import Culprit
from rooftile.blame.parts import ANOTHER_MEANING, IN_KERNELS, STRUCTURE, Parts
from rooftile.blame.subject import Subject
from rooftile.blame.trial import Trial, given, worst
from rooftile.ir.core import Graph
from rooftile.passes.switches import Application, Switches
from rooftile.target import Target

Results = Sequence[torch.Tensor]
Predicate = Callable[[Results, Results, Results], bool]  # of ours, eager's and float64's results: are ours right?


def keeps_promise(ours: Results, eager: Results, exact: Results) -> bool:
    """Whether every result is as near to the truth as the promise says."""
    return all(accuracy.kept for accuracy in promised(ours, eager, exact))


def bisect(subjects: Sequence[Subject], target: Target, predicate: Predicate = keeps_promise) -> Culprit | None:
    """What breaks ``predicate``, in the first subject in which it is broken; None where it holds."""
    for subject in subjects:
        search = _Search(Trial(subject, target, Switches()), predicate)
        if not search.holds(search.trial.results):
            return search.culprit()
    return None


@dataclass
class _Search:
    """The search in one subject."""

    trial: Trial
    predicate: Predicate
    _judged: dict[Graph, bool] = field(default_factory=dict)

    def holds(self, results: Results) -> bool:
        with torch.no_grad():
            return bool(self.predicate(results, self.trial.subject.eager, self.trial.subject.exact))

    def culprit(self) -> Culprit:
        """The stage that is to blame, and what in it."""
        judges = (self.means_the_same, self.is_right) if self.predicate is keeps_promise else (self.is_right,)
        for right in judges:
            self._judged.clear()
            found = self.in_stages(right) if right == self.is_right else self.in_stages(right) or self.in_kernels()
            if found is not None:
                return found
        return self.in_kernels() or self.in_plan()

    def means_the_same(self, graph: Graph) -> bool:
        """Whether ``graph`` computes what was imported where nothing is rounded."""
        return worst(self.trial.meaning(graph), self.trial.subject.exact) <= ANOTHER_MEANING

    def is_right(self, graph: Graph) -> bool:
        """Whether the predicate holds for ``graph`` by the reference."""
        return self.holds(self.trial.evaluated(graph))

    def in_stages(self, right: Callable[[Graph], bool]) -> Culprit | None:
        """The first pass whose graph is not ``right``."""
        stages = self.trial.stages
        if not right(stages[0].graph):
            return Culprit(self.trial, "import", "import")
        for number, (before, after) in enumerate(pairwise(stages)):
            if after.graph is not before.graph and not right(after.graph):
                return self.in_pass(number, right)
        return None

    def in_pass(self, number: int, right: Callable[[Graph], bool]) -> Culprit:
        """The application in pass ``number`` that makes its graph wrong."""
        name = self.trial.passes[number].name
        culprit = partial(Culprit, self.trial, "pass", name, number=number)

        def with_switches(switches: Switches) -> bool:
            return right(self.trial.alone(number, switches))

        whole = Switches()
        self.trial.alone(number, whole)
        rules = [r for r in dict.fromkeys(a.rewrite for a in whole.asked) if r != name]
        for rule in (*(r for r in rules if r not in STRUCTURE), name, *(r for r in rules if r in STRUCTURE)):
            asked = [a for a in whole.asked if a.rewrite == rule]
            if asked and with_switches(Switches(off=frozenset({rule}))):
                first, application = self.first_wrong(rule, with_switches)
                return culprit(rewrite=rule, application=first, of=len(asked), at=application)
        if whole.asked and with_switches(Switches(most={"": 0})):
            first, application = self.first_wrong("", with_switches)
            return culprit(rewrite=application.rewrite, application=first, of=len(whole.asked), at=application)
        return culprit()

    def first_wrong(self, rule: str, right: Callable[[Switches], bool]) -> tuple[int, Application]:
        """The number of the first application with which the graph is wrong, while it is right with those before."""
        low, high = 0, None  # right with `low` of them, wrong with `high`
        tried = 1
        while high is None or high - low > 1:
            middle = tried if high is None else (low + high) // 2
            switches = Switches(most={rule: middle})
            if right(switches):
                low = middle
                tried *= 2
            else:
                high = middle
                counted = [a for a in switches.asked if a.done and rule in ("", a.rewrite)]
                application = counted[-1]
        return high, application

    def in_kernels(self) -> Culprit | None:
        """The first kernel that breaks the predicate where all others are computed by the reference."""
        parts = Parts(self.trial)
        for op, (inputs, _) in parts.seen().items():
            computed = self.trial.kernel(op)(inputs)
            results = self.trial.evaluated(self.trial.graph, {op: given(computed)})
            if (self.predicate is keeps_promise and parts.is_wrong(op, computed)) or not self.holds(results):
                rule = next(self.repairing(), None)
                note = parts.where_wrong(op)
                return Culprit(self.trial, "kernel", str(op.attrs["name"]), op=op, note=note, at=rule)
        return None

    def in_plan(self) -> Culprit:
        """What in the plan makes the program another than its kernels one by one."""
        name, source, note = Parts(self.trial).in_plan()
        return Culprit(self.trial, "plan", name, source=source, note=note)

    def repairing(self) -> Iterator[Application]:
        """The rules that kernels rest on without which the results are right; at one place, if that is enough."""
        for rule in IN_KERNELS:
            asked = [a for a in self.trial.switches.asked if a.rewrite.endswith(f"/{rule}") and a.done]
            if asked and self.is_repaired_without(rule):
                places = {a.value: a for a in asked}
                alone = (a for value, a in places.items() if self.is_repaired_without(f"{rule}@{value}"))
                yield next(alone, asked[0]) if len(places) > 1 else asked[0]

    def is_repaired_without(self, name: str) -> bool:
        return self.holds(self.trial.without({name}).results)
