"""What a bisection found: the part that is to blame, and the least that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rooftile.blame.data import CulpritRow
from rooftile.blame.trial import Trial
from rooftile.ir.core import Op
from rooftile.passes.switches import Application

_IN_PLAN = {
    "plan": "the plan",
    "order": "the plan's order of steps",
    "operands": "the plan's operands",
    "memory": "the plan's memory",
}


@dataclass(frozen=True)
class Culprit:
    """A pass (``number`` in the pipeline) or a kernel (of region ``op``) of one trial.

    ``rewrite`` is what in the pass is to blame, its ``application`` number of the first of ``of``, at ``at``; of a
    kernel ``at`` is the rule it rests on without which it is right.
    """

    trial: Trial
    stage: Literal["import", "pass", "kernel", "plan"]
    name: str
    number: int = -1
    rewrite: str = ""
    application: int = 0
    of: int = 0
    at: Application | None = None
    op: Op | None = None
    source: str = ""
    note: str = ""

    @property
    def module(self) -> str:
        """The pass that a rule belongs to, or the part of the compiler that makes the stage."""
        if self.stage == "import":
            return "the import table"
        if self.stage == "plan":
            return _IN_PLAN.get(self.name, f"how pass {self.name} is carried out")
        return f"{self.stage} {self.name}"

    def row(self, repro: str = "") -> CulpritRow:
        """As plain data."""
        rule = self.at.rewrite.rpartition("/")[2] if self.at else ""
        return CulpritRow(
            graph=self.trial.subject.name,
            stage=self.stage,
            name=self.name,
            rewrite=self.rewrite or rule,
            application=self.application,
            applications=self.of,
            value=self.at.value if self.at else "",
            source=self.source or self.line(),
            note=self.note,
            repro=repro,
        )

    def line(self) -> str:
        """The user's line that the rewrite or the kernel is about."""
        return self.at.source if self.at else self.op.loc.source if self.op is not None else ""

    def __str__(self) -> str:
        found = self.row()
        lines = [f"to blame: {self.module}"]
        if self.rewrite and self.rewrite != self.name:
            lines[0] += f", rewrite {self.rewrite}"
        if self.stage == "kernel" and self.at is not None:
            lines[0] += f", right without rule {found.rewrite}"
        if self.application:
            lines.append(f"  it breaks with application {self.application} of {self.of}")
        where = (("value", found.value and f"%{found.value}"), ("from", found.source), ("note", self.note))
        lines += [f"  {label}: {text}" for label, text in where if text]
        return "\n".join(lines)
