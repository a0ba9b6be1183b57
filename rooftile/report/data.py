"""The report as plain data. Its keys are an interface: new ones may come, none changes its meaning.

A quantity that depends on sizes known only at run time is symbolic text (``"8192 * s0"``), or None where nothing can
be said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rooftile.errors import OptionError, writing

if TYPE_CHECKING:
    from rooftile.compilation import Compilation

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


Bound: TypeAlias = Literal["memory", "contractions", "arithmetic", "launch"]


@dataclass(frozen=True)
class Position:
    """Where a kernel stands under the target's roofline.

    ``intensity`` is its FLOP per byte moved, ``ridge`` that from which contractions on ``dtype`` rather than memory are
    the bound. The times are the least, in microseconds, that the bytes, the contractions, all other arithmetic and the
    launch take each; ``bound`` is the longest of them. ``estimate_us`` is what the cost model, which decides about
    fusions, expects of the kernel; of a library's it expects nothing.
    """

    intensity: float
    ridge: float
    dtype: str
    bound: Bound
    memory_us: float
    contractions_us: float
    arithmetic_us: float
    launch_us: float
    estimate_us: float | None


@dataclass(frozen=True)
class LineRow:
    """What a kernel computes of one line (``file:line``) of the model, in the module that runs it."""

    module: str
    source: str
    ops: tuple[str, ...]


@dataclass(frozen=True)
class ResourcesRow:
    """What the compiled kernel uses: registers a thread, bytes a thread spills, bytes of shared memory a program."""

    registers: int
    spill_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class MemberRow:
    """One of the kernels that share a launch. ``estimate_us`` is what it is expected to take in one of its own."""

    name: str
    schedule: Mapping[str, Any]
    loops: tuple[Loop, ...]
    flops: Quantity
    estimate_us: float
    ops: tuple[str, ...]
    lines: tuple[LineRow, ...]


@dataclass(frozen=True)
class KernelRow:
    """One kernel, or one ATen call: the model's own (``extern``), or one that was measured to be faster (``library``).

    ``bytes`` counts each buffer element that it reads or writes once, ``flops`` what is computed, steps that a mask
    leaves out not; times are in microseconds. ``notes`` say how the schedule's options were carried out, ``values`` are
    the values of the IR that it computes, by the names that the ledger calls them. ``roofline`` is missing where a size
    is not known, ``resources`` where the kernel was not compiled. A launch that several kernels share has them as
    ``members``, and in ``schedule`` what theirs have in common.
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
    lines: tuple[LineRow, ...] = ()
    values: tuple[str, ...] = ()
    roofline: Position | None = None
    resources: ResourcesRow | None = None
    members: tuple[MemberRow, ...] = ()

    @property
    def spent_us(self) -> float | None:
        """What it takes: as measured, else as the model expects."""
        return self.time_us if self.time_us is not None else self.roofline.estimate_us if self.roofline else None

    @property
    def times_floor(self) -> float | None:
        """How many times its floor that is; None where either is not known or the floor is nothing."""
        spent = self.spent_us
        return spent / self.floor_us if spent is not None and self.floor_us else None


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
    """One decision of the passes: ``bytes`` of memory traffic saved (negative: added), and, where something was not
    done or added traffic, what would ``change`` that."""

    decision: str
    rule: str
    values: tuple[str, ...]
    reason: str
    bytes: Quantity
    sources: tuple[str, ...]
    change: str = ""


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
class PassRow:
    """What a pass took and whether it changed the graph; ``ops`` are those of the graph behind it, regions' included.
    The import comes first."""

    name: str
    seconds: float
    changed: bool
    ops: int


@dataclass(frozen=True)
class TargetRow:
    """The device that the roofline is drawn for: bytes a second of memory, FLOP a second of contractions by dtype and
    of other arithmetic, and microseconds of a launch."""

    name: str
    bandwidth: float
    flops: Mapping[str, float]
    scalar_flops: float
    launch_us: float


@dataclass(frozen=True)
class BreakRow:
    """A place where one graph ends and Python goes on: what it is, what to change there, and the user's line."""

    reason: str
    fix: str
    source: str


@dataclass(frozen=True)
class Totals:
    """``eager_bytes`` is the traffic of the imported graph run op by op, ``peak_bytes`` what a run holds beside its
    inputs, ``kept_bytes`` what is held from run to run."""

    kernels: int
    bytes: Quantity
    eager_bytes: Quantity
    flops: Quantity
    peak_bytes: Quantity
    kept_bytes: Quantity = 0


@dataclass(frozen=True)
class Report:
    """What ``rooftile.explain`` gives back; ``print`` it, ``save`` it, or take ``to_dict()``.

    A model whose code breaks becomes several ``graphs``; ``breaks`` says where. ``uncompiled`` of them run as they
    are, since they cannot be imported. ``packed`` kernels compute from weights alone, once for all calls. ``seconds``
    says what compiling took, ``passes`` what each pass did, to one graph behind another. ``compilations`` is what all
    of it was read from, for views that need the IR itself; it is no part of the data.
    """

    device: str
    versions: Mapping[str, str]
    kernels: tuple[KernelRow, ...]
    buffers: tuple[BufferRow, ...]
    ledger: tuple[LedgerRow, ...]
    derivations: tuple[DerivationRow, ...]
    totals: Totals
    notes: tuple[NoteRow, ...] = ()
    packed: tuple[KernelRow, ...] = ()
    graphs: int = 1
    uncompiled: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    passes: tuple[PassRow, ...] = ()
    target: TargetRow | None = None
    breaks: tuple[BreakRow, ...] = ()
    compilations: tuple[Compilation, ...] = field(default=(), repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON's types: dicts, lists, text, numbers and None. docs/schemas/report.schema.json has its
        schema."""
        found = asdict(replace(self, compilations=()))
        del found["compilations"]
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the report and return where: as JSON, or as a page for a browser that needs nothing else.

        Raises:
            OptionError: the name ends in neither ``.json`` nor ``.html``, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in _AS_TEXT:
            raise OptionError(f"a report cannot be saved as {path.name!r}", fix="a name that ends in .json or .html")
        text = _AS_TEXT[path.suffix](self)
        with writing(path, "name another file"):
            path.write_text(text, encoding="utf-8")
        return path

    def __str__(self) -> str:
        from rooftile.report.text import as_text

        return as_text(self)

    def __rich__(self) -> Any:
        from rooftile.report.text import as_rich

        return as_rich(self)


def _json_text(report: Report) -> str:
    return json.dumps(report.to_dict(), indent=2) + "\n"


def _page(report: Report) -> str:
    from rooftile.report.page.page import page_of

    return page_of(report)


_AS_TEXT: Mapping[str, Callable[[Report], str]] = {".json": _json_text, ".html": _page}
