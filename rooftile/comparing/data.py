"""What differs between two dumps, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["same", "changed", "only in a", "only in b"]


@dataclass(frozen=True)
class Change:
    """One fact that is ``a`` in the first dump and ``b`` in the second; what is not there is None."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class PassChange:
    """The graph after one pass: whether both compute the same in the same way, and the diff of the texts if not."""

    graph: str
    name: str
    status: Status
    diff: str = ""


@dataclass(frozen=True)
class KernelChange:
    """One kernel, by its name: what changed in its schedule, traffic and times, and the diff of its code."""

    graph: str
    name: str
    status: Status
    changes: tuple[Change, ...] = ()
    diff: str = ""


@dataclass(frozen=True)
class DecisionChange:
    """A decision, a step of a derivation or a note that only one of the dumps has."""

    graph: str
    status: Status
    kind: str
    rule: str
    text: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class DumpDiff:
    """All of it: ``a`` and ``b`` are the folders."""

    a: str
    b: str
    facts: tuple[Change, ...]
    passes: tuple[PassChange, ...]
    kernels: tuple[KernelChange, ...]
    decisions: tuple[DecisionChange, ...]

    @property
    def same(self) -> bool:
        """Whether nothing that is computed, decided or launched differs."""
        statuses = [*(row.status for row in self.passes), *(row.status for row in self.kernels)]
        return not self.decisions and all(status == "same" for status in statuses)

    def to_dict(self) -> dict[str, Any]:
        """JSON's types."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain | {"same": self.same}

    def __rich__(self) -> Any:
        from rooftile.comparing.text import as_rich

        return as_rich(self)
