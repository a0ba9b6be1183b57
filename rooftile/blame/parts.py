"""What each part adds to the error, alone: passes and rewrites by the graphs they make, kernels by what they compute.

Every stage of the pipeline is a graph that the reference evaluates, so a pass is measured between the graph before it
and the one after. Within a pass one rewrite at a time is turned on. A kernel is run on what the reference gives it, and
the rest of the graph by the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from rooftile.accuracy import error
from rooftile.blame.data import BlameRow
from rooftile.blame.trial import Trial, given, worst
from rooftile.ir.core import Graph, Op
from rooftile.ir.evaluator import Tensors, evaluate
from rooftile.passes.manager import REQUIRED
from rooftile.passes.switches import Application, Switches
from rooftile.report.accounting import sources

ANOTHER_MEANING = 1e-9  # of results in float64: far above its rounding, far below any fault
ROUNDING = 2.0  # a kernel adds in another order than the reference: by so much its error may be larger
UNITS = 4e-6  # and by a few tens of units of fp32 where the reference is exact
# What fuse decides by price, and what sweeps rest on: these change which kernels there are, and no formula.
STRUCTURE = frozenset({"fuse/fused", "fuse/joined", "fuse/shared", "fuse/correct"})
# Rules that only show in how a kernel computes its region; what the first change, the last are not needed for.
IN_KERNELS = ("skip", "correct")
IN_PLAN = ("beside", "pack")  # passes that change which launches there are and when, and no kernel


@dataclass
class Parts:
    """The rows for one trial."""

    trial: Trial
    _errors: dict[Graph, float] = field(default_factory=dict)
    _meanings: dict[Graph, list[torch.Tensor]] = field(default_factory=dict)
    _seen: dict[Op, tuple[Tensors, Tensors]] = field(default_factory=dict)

    def rows(self) -> Iterator[BlameRow]:
        """Passes with their rewrites, in order, then kernels and what they rest on, where no pass is known to be wrong:
        without it, if one is."""
        passes = [row for number in range(len(self.trial.stages) - 1) for row in self.of_pass(number)]
        yield from passes
        wrong = {row.name for row in passes if row.wrong and row.name not in REQUIRED}
        yield from Parts(self.trial.without(wrong)).in_kernels() if wrong else self.in_kernels()

    def in_kernels(self) -> Iterator[BlameRow]:
        """Kernels, then the plan where it is wrong, then the rules that kernels rest on."""
        kernels = [self.of_kernel(op) for op in self.seen()]
        yield from kernels
        if self.trial.runs_here:
            yield from self.of_plan()
        suspected = any(row.wrong for row in kernels)
        for rule in IN_KERNELS:
            asked = [a for a in self.trial.switches.asked if a.rewrite.endswith(f"/{rule}") and a.done]
            if asked:
                yield (row := self.of_rule(rule, asked, suspected=suspected))
                suspected = suspected and not row.wrong

    def of_pass(self, number: int) -> Iterator[BlameRow]:
        """The row of one pass, and below it, where it changes the results at all, those of its rewrites."""
        before, after = (stage.graph for stage in self.trial.stages[number : number + 2])
        if after is before:
            return
        name = self.trial.passes[number].name
        asked = [a for a in self.trial.switches.asked if a.rewrite.partition("/")[0] == name and a.done]
        row = self.row(name, "pass", asked, before, after)
        yield row
        if row.adds or row.means:
            for rewrite in dict.fromkeys(a.rewrite for a in asked):
                if rewrite not in (name, *STRUCTURE):
                    only = frozenset({rewrite, *(s for s in STRUCTURE if s.startswith(f"{name}/"))})
                    made = self.trial.alone(number, Switches(off=self.trial.switches.off, only=only))
                    yield self.row(rewrite, "rewrite", [a for a in asked if a.rewrite == rewrite], before, made)

    def row(self, name: str, kind: str, asked: Sequence[Application], before: Graph, after: Graph) -> BlameRow:
        """What the step from ``before`` to ``after`` adds."""
        means = self.distance(before, after)
        return BlameRow(
            graph=self.trial.subject.name,
            name=name,
            kind="pass" if kind == "pass" else "rewrite",
            places=len({a.place for a in asked}),
            adds=less(self.error(after), self.error(before)),
            means=means,
            wrong=means > ANOTHER_MEANING,
            sources=_sources(asked),
        )

    def error(self, graph: Graph) -> float:
        """Of the graph's results in its own dtypes."""
        if graph not in self._errors:
            self._errors[graph] = worst(self.trial.evaluated(graph), self.trial.subject.exact)
        return self._errors[graph]

    def distance(self, before: Graph, after: Graph) -> float:
        """How far apart two graphs are where nothing is rounded."""
        return worst(self.meaning(after), self.meaning(before))

    def meaning(self, graph: Graph) -> list[torch.Tensor]:
        if graph not in self._meanings:
            self._meanings[graph] = self.trial.meaning(graph)
        return self._meanings[graph]

    def seen(self) -> dict[Op, tuple[Tensors, Tensors]]:
        """What the reference gives each region and what it makes of that."""
        found: dict[Op, tuple[Tensors, Tensors]] = {}

        def observe(op: Op, inputs: Tensors, results: Tensors) -> None:
            if op.name == "region":
                found[op] = (list(inputs), list(results))

        subject = self.trial.subject
        with torch.no_grad():
            evaluate(self.trial.graph, subject.tensors, subject.sizes, observer=observe)
        self._seen = found
        return found

    def of_kernel(self, op: Op) -> BlameRow:
        """The row of one kernel."""
        inputs, _ = self._seen[op]
        computed = self.trial.kernel(op)(inputs)
        wrong = self.is_wrong(op, computed)
        note = self.where_wrong(op) if wrong else ""
        results = self.trial.evaluated(self.trial.graph, {op: given(computed)})
        return BlameRow(
            graph=self.trial.subject.name,
            name=str(op.attrs["name"]),
            kind="kernel",
            places=1,
            adds=less(worst(results, self.trial.subject.exact), self.error(self.trial.graph)),
            means=None,
            wrong=wrong,
            sources=sources(op.regions[0].ops),
            note=note,
        )

    def where_wrong(self, op: Op) -> str:
        """Whether a wrong kernel was lowered wrongly or written wrongly, in words."""
        if not self.trial.runs_here:
            return "its tile IR is wrong: lower"
        lowered = self.is_wrong(op, self.trial.tile_program(op)(self._seen[op][0]))
        return "its tile IR is wrong: lower" if lowered else "its tile IR is right: code generation"

    def of_plan(self) -> Iterator[BlameRow]:
        """A row where the program gives something else than its kernels one by one."""
        if self.is_planned_wrongly():
            exact = self.trial.subject.exact
            adds = less(worst(self.trial.results, exact), worst(self.trial.by_kernels, exact))
            name, source, note = self.in_plan()
            sources = (source,) if source else ()
            yield BlameRow(self.trial.subject.name, name, "plan", 1, adds, None, True, sources, note)

    def is_planned_wrongly(self) -> bool:
        """Whether the program gives something else than its kernels one by one."""
        pairs = zip(self.trial.results, self.trial.by_kernels, strict=True)
        return not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)

    def in_plan(self) -> tuple[str, str, str]:
        """What in the plan is wrong, where in the model, and in words: the ``order`` of steps, a step's ``operands``,
        the ``memory`` of a buffer; a pass that decides about launches, where the program is right without it."""
        if faults := self.trial.plans.faults(self.trial.subject.sizes):
            makers = self.trial.graph.producers()
            made = makers.get(faults[0].value)
            return faults[0].kind, made.loc.source if made else "", faults[0].text
        asked = {a.rewrite for a in self.trial.switches.asked if a.done}
        for name in (n for n in IN_PLAN if n in asked):
            if not Parts(self.trial.without({name})).is_planned_wrongly():
                return name, "", "without it the program is as its kernels one by one"
        return "plan", "", "the program differs from its kernels run one by one"

    def is_wrong(self, op: Op, computed: Tensors) -> bool:
        """Whether ``computed`` is farther from the region in float64 than rounding explains."""
        inputs, by_reference = self._seen[op]
        body, sizes = op.regions[0], self.trial.subject.sizes
        exact = evaluate(body, [x.double() if x.is_floating_point() else x for x in inputs], sizes, promote=True)
        return any(_is_off(y, b, r) for y, b, r in zip(computed, by_reference, exact, strict=True))

    def of_rule(self, rule: str, asked: Sequence[Application], *, suspected: bool) -> BlameRow:
        """A rule that kernels rest on: the whole with it against the whole without it."""
        trial = self.trial
        without = trial.without({rule})
        exact = trial.subject.exact
        adds = less(worst(trial.results, exact), worst(without.results, exact))
        other = Parts(without)
        repaired = suspected and not any(other.of_kernel(op).wrong for op in other.seen())
        places = {a.value: a for a in asked}
        note = "without it no kernel is wrong" if repaired else ""
        return BlameRow(trial.subject.name, rule, "rewrite", len(places), adds, None, repaired, _sources(asked), note)


def less(a: float, b: float) -> float:
    """``a - b``; nothing where both are infinite."""
    return 0.0 if a == b else a - b


def _is_off(y: torch.Tensor, reference: torch.Tensor, exact: torch.Tensor) -> bool:
    if not y.is_floating_point():
        return not torch.equal(y, reference)
    if not torch.equal(y.isnan(), reference.isnan()):
        return True
    return error(y, exact) > ROUNDING * error(reference, exact) + UNITS


def _sources(asked: Sequence[Application]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a.source for a in asked if a.source))
