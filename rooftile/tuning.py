"""``tune``: measure the schedules of a model's kernels and keep the best in a lock file; ``check_lock`` compares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from rooftile.compilation import Compilation
from rooftile.config import CompileOptions, Config
from rooftile.driver import fp32_precision
from rooftile.errors import OptionError, nearest
from rooftile.ir.core import Op
from rooftile.measured import Unit, distinct, regions_of
from rooftile.passes.launches import sharing
from rooftile.report.explaining import compile_afresh
from rooftile.report.text import Table, rich_table
from rooftile.runtime.tuning.clocks import Clock, clock_for
from rooftile.runtime.tuning.lock import Entry, device_key, read_lock, update_lock
from rooftile.runtime.tuning.locked import Locked, Misfit, choice_of, entry_of, made_with
from rooftile.runtime.tuning.search import EFFORTS, Effort, Progress, Search, schedule_text
from rooftile.runtime.tuning.unit import Outcome
from rooftile.target import Target

_LOG = logging.getLogger("rooftile.tuning")
DEFAULT_LOCK = "rooftile.lock"
Status = Literal["locked", "missing", "misfit", "other versions"]


@dataclass(frozen=True)
class TunedKernel:
    """What tuning found for a kernel; times in microseconds, None where nothing was timed."""

    name: str
    schedule: str
    microseconds: float | None
    first_microseconds: float | None
    timed: int


@dataclass(frozen=True)
class TuningReport:
    """The kernels that were tuned, each once, and the file that holds the outcome; prints as a table.

    ``interrupted``: Ctrl-C was pressed before all were timed.
    """

    device: str
    lock: Path
    kernels: tuple[TunedKernel, ...]
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        rows = [vars(kernel) for kernel in self.kernels]
        return {"device": self.device, "lock": str(self.lock), "interrupted": self.interrupted, "kernels": rows}

    def __rich__(self) -> Any:
        columns = ("kernel", "tuned", "first choice", "timed", "schedule")
        rows = tuple(
            (k.name, _us(k.microseconds), _us(k.first_microseconds), str(k.timed), k.schedule) for k in self.kernels
        )
        return rich_table(Table(f"Tuned for {self.device}, in {self.lock}", columns, rows))

    def __str__(self) -> str:
        lines = [
            f"{k.name}: {_us(k.microseconds)}, first choice {_us(k.first_microseconds)}; {k.schedule}"
            for k in self.kernels
        ]
        return "\n".join([f"tuned for {self.device}, in {self.lock}", *lines])


@dataclass(frozen=True)
class CheckedKernel:
    """A kernel of a model held against a lock file: ``status``, and what that means in words."""

    name: str
    status: Status
    text: str


def tune(
    model: Callable[..., Any],
    *inputs: Any,
    lock: str | PathLike[str] = DEFAULT_LOCK,
    effort: str = "full",
    seconds: float | None = None,
    dynamic: bool | None = None,
    library: bool | None = None,
    progress: bool = False,
    **kwargs: Any,
) -> TuningReport:
    """Time schedules for the kernels of ``model`` on these inputs, and put the best into a lock file.

    ``rooftile.compile(model, options={"lock": ...})`` uses them and times nothing. The file may hold other models and
    devices. It is written after each kernel, and Ctrl-C ends tuning with what has been found.

    Args:
        effort: ``"quick"`` or ``"full"``: how many schedules of a kernel are tried, and for how long.
        seconds: the longest that tuning may take; what has been found by then counts.
        dynamic: as in ``compile``. Run-time sizes are tuned for those of ``inputs``.
        library: whether a library's matrix products and attention are tried beside ours; None as the environment says.
        progress: show it on the terminal.

    Raises:
        OptionError: an unknown effort, no time, or a lock file that cannot be read or written.
        RooftileError: whatever compiling the model raises.
    """
    if effort not in EFFORTS:
        raise OptionError(f"effort cannot be {effort!r}", fix=nearest(effort, EFFORTS))
    if seconds is not None and not seconds >= 0:
        raise OptionError(f"seconds cannot be {seconds}", fix="how long tuning may take at most")
    chosen = EFFORTS[effort] if seconds is None else Effort(EFFORTS[effort].candidates, seconds)
    with torch.no_grad():
        compilations, _ = compile_afresh(model, inputs, kwargs, CompileOptions(dynamic=dynamic, autotune="none"))
    config = Config.from_env().with_options(CompileOptions(library=library))
    with _shown() if progress else nullcontext(_silent) as show:
        return tune_compiled(compilations, Path(lock), chosen, show, config=config)


def tune_compiled(
    compilations: Sequence[Compilation],
    lock: Path,
    effort: Effort,
    progress: Progress,
    clock: Clock | None = None,
    config: Config | None = None,
) -> TuningReport:
    """``tune`` for what has been compiled; all graphs are on one device."""
    if not compilations:
        raise OptionError("nothing of this model is compiled, so that there is nothing to tune")
    target, device = compilations[0].target, compilations[0].device
    if target.kind != device.type:
        raise OptionError(f"kernels for {target.name} cannot be timed on {device}", fix="leave the target out")
    if device.type == "cpu":
        _say_interpreted()
    update_lock(lock, [])  # whoever cannot write there learns it before hours of timing
    precision = fp32_precision(target)
    clock = clock or clock_for(target, device)
    search = Search(target, device, config or Config.from_env(), precision, effort, clock, progress)
    found: list[Outcome] = []
    for outcome in search.run(list(_units(compilations, precision))):
        found.append(outcome)
        if outcome.microseconds is not None:
            update_lock(lock, [entry_of(outcome, target, precision)])
    rows = (_row(o) for o in sorted(found, key=lambda o: -(o.microseconds or 0.0)))
    return TuningReport(device_key(target), lock, tuple(rows), search.interrupted)


@cache
def _say_interpreted() -> None:
    """Say once what times are worth where there is no GPU."""
    _LOG.warning("without a GPU it is the interpreter that is timed: what it finds tells nothing of a GPU")


def _units(compilations: Sequence[Compilation], precision: str) -> Iterator[tuple[Unit, Mapping[str, int], int]]:
    """The regions of all graphs, those that share a launch together, each once, with the sizes that it was called
    with, and how often it is there."""
    sizes = {unit: c.sizes for c in compilations for unit in sharing(regions_of(c.lowered))}
    for unit, times in distinct(sizes, precision).items():
        yield unit, {s.name: sizes[unit][s.name] for op in unit for s in op.regions[0].size_symbols()}, times


def _row(outcome: Outcome) -> TunedKernel:
    return TunedKernel(
        str(outcome.op.attrs["name"]),
        schedule_text(outcome.schedule),
        outcome.microseconds,
        outcome.first_microseconds,
        outcome.timed,
    )


def check_lock(compilations: Sequence[Compilation], lock: Path) -> list[CheckedKernel]:
    """Whether each kernel has an entry that fits it, made with these versions, for its device, which need not be here.

    Raises:
        OptionError: the lock file cannot be read.
    """
    entries = read_lock(lock)
    rows = []
    for compilation in compilations:
        target = compilation.target
        locked, precision = Locked.of(entries, target), fp32_precision(target)
        for unit in distinct(sharing(regions_of(compilation.lowered)), precision):
            for op in unit:
                status, text = _status(locked.entry(unit, op, precision), op, target)
                rows.append(CheckedKernel(str(op.attrs["name"]), status, text))
    return rows


def _status(entry: Entry | None, op: Op, target: Target) -> tuple[Status, str]:
    if entry is None:
        return "missing", f"no entry for {device_key(target)}: the first choice is used"
    try:
        choice_of(entry, op, target)
    except Misfit as misfit:
        return "misfit", f"{misfit}: the first choice is used"
    if entry.made_with != made_with():
        return "other versions", f"timed with {entry.made_with}, this is {made_with()}: used all the same"
    return "locked", "" if entry.microseconds is None else f"{entry.microseconds:.1f} us"


def _us(value: float | None) -> str:
    return "not timed" if value is None else f"{value:.1f} us"


def _silent(what: str, done: int, total: int) -> None:
    pass


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar on the terminal."""
    from rich.progress import Progress as Bar

    with Bar(transient=True) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
