"""``rooftile check``: every result against the truth, and which part of the compiler adds how much to its error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import torch

from rooftile.accuracy import promised
from rooftile.blame.budget import over_budget
from rooftile.blame.data import BlameRow, CheckReport, NonfiniteRow, OutputRow
from rooftile.blame.nonfinite import nonfinite
from rooftile.blame.parts import Parts
from rooftile.blame.subject import Subject, model_subjects
from rooftile.blame.trial import Trial
from rooftile.config import Config, inputs_in_order
from rooftile.errors import OptionError
from rooftile.passes.switches import Switches
from rooftile.report.collect import device_text, versions
from rooftile.runtime.devices import target_of
from rooftile.target import Target, target_named


@dataclass(frozen=True)
class Wanted:
    """What to find out beside the errors of the results: the ``blame``, the origin of NaN and infinities (``nan``),
    what exceeds a ``budget``; ``without`` leaves rewrites out from the start."""

    blame: bool = True
    nan: bool = False
    budget: float | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.budget is not None and isnan(self.budget):
            raise OptionError("the budget cannot be nan", fix="an error that is still allowed, such as 1e-4")


def check_model(
    model: Callable[..., Any],
    inputs: Sequence[Any],
    target: str | None = None,
    wanted: Wanted = Wanted(),
    dynamic: bool | None = None,
) -> CheckReport:
    """Check what Rooftile makes of ``model`` for ``inputs``, with ``wanted`` beside.

    Raises:
        OptionError: the inputs are no list or tuple.
        RooftileError: whatever compiling the model raises.
    """
    subjects, uncompiled = model_subjects(model, inputs_in_order(inputs), dynamic)
    return replace(check_subjects(subjects, target, wanted), uncompiled=uncompiled)


def check_subjects(subjects: Sequence[Subject], target: str | None, wanted: Wanted) -> CheckReport:
    """Check graphs with their inputs; see ``check_model``. Without a ``target``, and with nothing that is left out, it
    is as the environment says."""
    settings = Config.from_env()
    target, wanted = target or settings.target, replace(wanted, without=wanted.without or settings.without)
    looks = [_Look(s, _target(s, target), wanted) for s in subjects]
    for look in looks:
        look.run()
    return CheckReport(
        device=", ".join(dict.fromkeys(device_text(e.target, e.subject.device) for e in looks)) or "no graph",
        versions=versions(),
        outputs=tuple(row for e in looks for row in e.outputs),
        blame=tuple(row for e in looks for row in e.blame),
        nonfinite=tuple(row for e in looks for row in e.nonfinite),
        budget=wanted.budget,
        without=tuple(dict.fromkeys(name for e in looks for name in e.without)),
    )


def _target(subject: Subject, name: str | None) -> Target:
    return target_named(name) if name else target_of(subject.device)


class _Look:
    """One subject's rows."""

    def __init__(self, subject: Subject, target: Target, wanted: Wanted) -> None:
        self.subject, self.target, self.wanted = subject, target, wanted
        self.without = list(wanted.without)
        self.outputs: list[OutputRow] = []
        self.blame: list[BlameRow] = []
        self.nonfinite: list[NonfiniteRow] = []

    def run(self) -> None:
        trial = self.trial()
        if self.wanted.blame or self.wanted.budget is not None:
            parts = Parts(trial)
            self.blame = list(parts.rows())
            if self.wanted.budget is not None and self.leave_out(parts, self.wanted.budget):
                trial = self.trial()
        self.outputs = list(output_rows(trial))
        if self.wanted.nan:
            self.nonfinite = list(nonfinite(trial))

    def trial(self) -> Trial:
        return Trial(self.subject, self.target, Switches(off=frozenset(self.without)))

    def leave_out(self, parts: Parts, budget: float) -> bool:
        """Turn off what exceeds ``budget``; whether anything did."""
        found = list(over_budget(parts, self.blame, budget))
        off = {row.name: row for row, _ in found}
        self.blame = [off.get(row.name, row) for row in self.blame]
        self.without += [name for _, names in found for name in names]
        return bool(found)


def output_rows(trial: Trial) -> Iterator[OutputRow]:
    """Every result of a trial beside eager's and the truth."""
    subject = trial.subject
    with torch.no_grad():
        found = promised(trial.results, subject.eager, subject.exact)
    for value, a in zip(subject.graph.outputs, found, strict=True):
        yield OutputRow(subject.name, value.name, a.ours, a.eager, a.allowed, a.same_nonfinite, a.kept)
