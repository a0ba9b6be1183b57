"""The report as plain data. Its keys are an interface: new ones may come, none changes its meaning.

A quantity that depends on sizes known only at run time is symbolic text (``"8192 * s0"``), or None where nothing can
be said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rooftile.errors import OptionError

Quantity: TypeAlias = int | str | None


@dataclass(frozen=True)
class Loop:
    """An axis that a kernel sweeps: the steps that all its programs visit, of all there are, and the phases these run
    in. A mask may leave steps out (``masked``) and have others that it lets pass whole (``bare``); ``rest`` are those
    that only programs run whose masked rows hold nothing else, and don't count as visited. None where the data or a
    size that is not known decide."""

    axis: str
    visited: Quantity
    total: Quantity
    phases: tuple[str, ...]


@dataclass(frozen=True)
class KernelRow:
    """One kernel, or one ATen call: the model's own (``extern``), or one that was measured to be faster (``library``).

    ``bytes`` counts each buffer element that it reads or writes once; times are in microseconds. ``notes`` say how the
    schedule's options were carried out.
    """

    name: str
    kind: Literal["triton", "library", "extern"]
    launches: int
    schedule: Mapping[str, Any]
    loops: tuple[Loop, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    bytes: Quantity
    flops: Quantity
    floor_us: float | None
    time_us: float | None
    ops: tuple[str, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BufferRow:
    """One tensor in device memory."""

    name: str
    shape: tuple[Quantity, ...]
    dtype: str
    bytes: Quantity
    role: Literal["input", "weight", "intermediate", "output"]


@dataclass(frozen=True)
class LedgerRow:
    """One decision of the passes: ``bytes`` of memory traffic saved (negative: added)."""

    decision: str
    rule: str
    values: tuple[str, ...]
    reason: str
    bytes: Quantity
    sources: tuple[str, ...]


@dataclass(frozen=True)
class RuleStep:
    """One application of a rule in a derivation."""

    rule: str
    before: str
    after: str


@dataclass(frozen=True)
class DerivationRow:
    """How a value came to be computed in one sweep."""

    value: str
    steps: tuple[RuleStep, ...]


@dataclass(frozen=True)
class NoteRow:
    """Something that is computed not exactly as written, such as a rounding that is left out."""

    value: str
    text: str
    source: str


@dataclass(frozen=True)
class Totals:
    """``eager_bytes`` is the traffic of the imported graph run op by op;

    ``peak_bytes`` what a run holds beside its inputs.
    """

    kernels: int
    bytes: Quantity
    eager_bytes: Quantity
    flops: Quantity
    peak_bytes: Quantity


@dataclass(frozen=True)
class Report:
    """What ``rooftile.explain`` gives back; ``print`` it, or take ``to_dict()``.

    A model whose code breaks becomes several ``graphs``; ``uncompiled`` of them run as they are, since they cannot
    be imported. ``seconds`` says what compiling took.
    """

    device: str
    versions: Mapping[str, str]
    kernels: tuple[KernelRow, ...]
    buffers: tuple[BufferRow, ...]
    ledger: tuple[LedgerRow, ...]
    derivations: tuple[DerivationRow, ...]
    totals: Totals
    notes: tuple[NoteRow, ...] = ()
    graphs: int = 1
    uncompiled: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON's types: dicts, lists, text, numbers and None."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the report as JSON and return where.

        Raises:
            OptionError: the name does not end in ``.json``.
        """
        path = Path(path)
        if path.suffix != ".json":
            raise OptionError(f"a report cannot be saved as {path.name!r}", fix="give it a name that ends in .json")
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    def __str__(self) -> str:
        from rooftile.report.text import as_text

        return as_text(self)

    def __rich__(self) -> Any:
        from rooftile.report.text import as_rich

        return as_rich(self)
