"""What ``rooftile check`` finds, as plain data. Errors are relative, in the 2-norm; what is not finite is text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Annotated, Any, Literal, TypeAlias

Measured: TypeAlias = Annotated[float, "in JSON, what is not finite is text"]


@dataclass(frozen=True)
class OutputRow:
    """One result against the truth, and the error up to which the promise holds."""

    graph: str
    output: str
    ours: Measured
    eager: Measured
    allowed: Measured
    same_nonfinite: bool
    kept: bool


@dataclass(frozen=True)
class BlameRow:
    """What a pass, a rewrite or a kernel adds to the error of the results, turned on alone.

    ``adds`` is the error with it less that without it, ``means`` what it changes with every float op in float64, where
    nothing is rounded: more than nothing is a fault, and ``wrong``. A kernel is ``wrong`` if it is farther from its
    region in float64 than rounding explains. ``off`` says that a budget left it out.
    """

    graph: str
    name: str
    kind: Literal["pass", "rewrite", "kernel", "plan"]
    places: int
    adds: Measured
    means: Measured | None
    wrong: bool
    sources: tuple[str, ...]
    note: str = ""
    off: bool = False


@dataclass(frozen=True)
class NonfiniteRow:
    """The first op that makes a NaN or an infinity of operands that hold none."""

    graph: str
    run: Literal["eager", "ours"]
    what: Literal["NaN", "infinity"]
    op: str
    module: str
    source: str
    kernel: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All of it. ``without`` are the rewrites that are left out, as the option of that name takes them; ``outputs``
    are those of the program without them. ``uncompiled`` graphs run as they are."""

    device: str
    versions: Mapping[str, str]
    outputs: tuple[OutputRow, ...]
    blame: tuple[BlameRow, ...] = ()
    nonfinite: tuple[NonfiniteRow, ...] = ()
    budget: float | None = None
    without: tuple[str, ...] = ()
    uncompiled: int = 0

    @property
    def kept(self) -> bool:
        """Whether the promise holds for every result, and nothing that is in use was found to be wrong."""
        return all(row.kept for row in self.outputs) and not self.faults

    @property
    def faults(self) -> list[BlameRow]:
        """The rows that are wrong and in use; a pass is in use without those of its rewrites that are off."""
        off = [row.name for row in self.blame if row.off]
        cured = {name.partition("/")[0] for name in off}
        return [row for row in self.blame if row.wrong and not row.off and row.name not in cured]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; an infinite or undefined number as text."""
        plain: dict[str, Any] = json.loads(json.dumps(_finite(asdict(self)), allow_nan=False))
        return plain | {"kept": self.kept}

    def __rich__(self) -> Any:
        from rooftile.blame.text import as_rich

        return as_rich(self)


@dataclass(frozen=True)
class CulpritRow:
    """What ``rooftile bisect`` found: a ``stage`` of compiling and its ``name`` (a pass', a kernel's), the ``rewrite``
    in it and the number of its first wrong ``application`` of so many ``applications``, or for a kernel the rule that
    it rests on; the ``value`` that this is about, the user's line, and the script that shows it."""

    graph: str
    stage: Literal["import", "pass", "kernel", "plan"]
    name: str
    rewrite: str
    application: int
    applications: int
    value: str
    source: str
    note: str
    repro: str = ""


@dataclass(frozen=True)
class BisectReport:
    """The culprit; None where nothing breaks the predicate."""

    culprit: CulpritRow | None


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return str(data) if isinstance(data, float) and not isfinite(data) else data
