"""A report for people: the same tables as plain text and, on a terminal, through rich."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rooftile.report.data import KernelRow, LedgerRow, Loop, NoteRow, Quantity, Report

_NAMES_SHOWN = 4
_WHOLE = frozenset({"decision", "by", "bound by", "axis", "rule", "value"})  # columns of words, which are not folded
_LEAST = {"kernel": 10, "from": 16, "why": 24}  # the narrowest that columns of names and sentences become


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; ``right`` names the columns that hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()


def tables(report: Report, derivations: bool = True) -> Iterator[Table]:
    """The report's tables, those without rows left out."""
    parts = [
        _breaks,
        _kernels,
        _packed,
        _schedules,
        _loops,
        _options,
        _decisions,
        _changes,
        *([_derivations] if derivations else []),
        _notes,
    ]
    return (table for part in parts if (table := part(report)).rows)


def without(table: Table, column: str) -> Table:
    """The table without one of its columns."""
    at = table.columns.index(column)
    rows = tuple(row[:at] + row[at + 1 :] for row in table.rows)
    return replace(table, columns=table.columns[:at] + table.columns[at + 1 :], rows=rows)


def headline(report: Report) -> str:
    """One line on what was compiled, and one on what that moves."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    t = report.totals
    graphs = "" if report.graphs == 1 else f" in {report.graphs} graphs"
    graphs += f", {report.uncompiled} of them not compiled" if report.uncompiled else ""
    moved = f"{quantity(t.bytes, 'B')} moved (op by op: {quantity(t.eager_bytes, 'B')}{_ratio(t.bytes, t.eager_bytes)})"
    work = f"{quantity(t.flops, 'FLOP')}, {quantity(t.peak_bytes, 'B')} at the peak"
    kernels = "1 kernel" if t.kernels == 1 else f"{t.kernels} kernels"
    kept = f"; {quantity(t.kept_bytes, 'B')} kept from call to call" if t.kept_bytes else ""
    return f"{report.device} ({versions})\n{kernels}{graphs}; {moved}; {work}{kept}"


def _ratio(ours: Quantity, eager: Quantity) -> str:
    return f", {eager / ours:.1f} times as much" if isinstance(ours, int) and isinstance(eager, int) and ours else ""


def as_text(report: Report) -> str:
    """Plain text, as wide as its longest row."""
    opening = f"{headline(report)}\n{furthest(report)}"
    return "\n\n".join([opening, *(plain_table(table) for table in tables(report))]) + "\n"


def as_rich(report: Report) -> Any:
    """A rich renderable, fitted to the terminal."""
    from rich.console import Group
    from rich.text import Text

    opening = (Text(headline(report)), Text(furthest(report)), Text())
    return Group(*opening, *(rich_table(table) for table in tables(report)))


def furthest(report: Report) -> str:
    """Which kernel takes the most times its floor, and where most time is lost; by the model where nothing was
    measured."""
    known = [k for k in report.kernels if k.times_floor is not None]
    if not known:
        return "No kernel has a floor that is known."
    how = "measured" if any(k.time_us is not None for k in known) else "by the model"
    far, worst = max(known, key=lambda k: k.times_floor or 0), max(known, key=lost_us)
    found = f"Furthest from its floor, {how}: {far.name}, {far.times_floor:.1f} times"
    if far.roofline is not None and far.roofline.bound == "launch":
        found += ", for its launch"
    if far is worst:
        return f"{found}, {_microseconds(lost_us(far))} above it"
    return f"{found}; most time is lost in {worst.name}, {_microseconds(lost_us(worst))} above it"


def lost_us(kernel: KernelRow) -> float:
    """The microseconds that a kernel takes above its floor."""
    return (kernel.spent_us or 0.0) - (kernel.floor_us or 0.0)


def rich_table(table: Table) -> Any:
    """The same table through rich."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "collapse_padding": True, "pad_edge": False}
    shown = RichTable(title=table.title, title_justify="left", title_style="bold", **look)
    for column in table.columns:
        right = column in table.right
        least = _LEAST.get(column)
        shown.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=column in _WHOLE, min_width=least
        )
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def plain_table(table: Table) -> str:
    """The same table as text."""
    rows = (table.columns, *table.rows)
    widths = [max(len(row[c]) for row in rows) for c in range(len(table.columns))]

    def line(row: tuple[str, ...]) -> str:
        cells = zip(table.columns, row, widths, strict=True)
        return "  ".join(cell.rjust(w) if name in table.right else cell.ljust(w) for name, cell, w in cells).rstrip()

    return "\n".join(
        [
            *([table.title] if table.title else []),
            line(table.columns),
            "  ".join("-" * w for w in widths),
            *map(line, table.rows),
        ]
    )


def _breaks(report: Report) -> Table:
    rows = tuple((b.reason, b.fix, places((b.source,)) if b.source else "") for b in report.breaks)
    return Table("Graph breaks: Python runs between two graphs", ("why", "what helps", "from"), rows)


def _kernels(report: Report) -> Table:
    return _kernel_table("Kernels, in order", report.kernels)


def _packed(report: Report) -> Table:
    return _kernel_table("Kernels that run once, while weights stay as they are", report.packed)


def _kernel_table(title: str, kernels: Sequence[KernelRow]) -> Table:
    rows = tuple(
        (
            k.name,
            quantity(k.bytes, "B"),
            quantity(k.flops, "FLOP"),
            "" if k.roofline is None else f"{k.roofline.intensity:.3g}",
            "" if k.roofline is None else k.roofline.bound,
            _microseconds(k.floor_us),
            _microseconds(k.spent_us),
            "" if k.times_floor is None else f"{k.times_floor:.1f}",
            places(k.sources),
        )
        for k in kernels
    )
    measured = any(k.time_us is not None for k in kernels)
    numbers = ("moves", "computes", "FLOP/B", "floor", "time" if measured else "expected", "x floor")
    columns = ("kernel", *numbers[:3], "bound by", *numbers[3:], "from")
    return Table(title, columns, rows, frozenset(numbers))


def _schedules(report: Report) -> Table:
    kernels = (*report.kernels, *report.packed)
    shown = 4 if any(k.resources for k in kernels) else 3
    rows = tuple(row[:shown] for k in kernels for row in _schedule_rows(k))
    return Table("What each computes, and how", ("kernel", "schedule", "computes", "uses")[:shown], rows)


def _schedule_rows(kernel: KernelRow) -> Iterator[tuple[str, ...]]:
    """A row for a kernel; where several share its launch, a row for each below that."""
    shared = f"one launch for {len(kernel.members)}"
    computes = counted(kernel.ops) or "nothing: it moves elements"
    whole = (shared, "") if kernel.members else (schedule_text(kernel), computes)
    yield kernel.name, *whole, _resources(kernel)
    for member in kernel.members:
        yield f"  {member.name}", axes_text(member.schedule), counted(member.ops), ""


def _resources(kernel: KernelRow) -> str:
    used = kernel.resources
    if used is None:
        return ""
    spills = f", {used.spill_bytes} B spilled" if used.spill_bytes else ""
    return f"{used.registers} registers{spills}, {quantity(used.shared_bytes, 'B')} shared"


def _loops(report: Report) -> Table:
    rows = tuple(
        (k.name, loop.axis, _steps(loop), ", ".join(loop.phases))
        for k in report.kernels
        for loop in k.loops
        if loop.visited != loop.total or len(loop.phases) > 1
    )
    return Table("Loops that skip steps or run in phases", ("kernel", "axis", "steps", "phases"), rows)


def _steps(loop: Loop) -> str:
    """``12 of 16``; what only the data, or sizes, of a call decide is said to be so."""
    if loop.total is None:
        return "as many as the call's sizes say"
    return f"as the data say, of {loop.total}" if loop.visited is None else f"{loop.visited} of {loop.total}"


def _options(report: Report) -> Table:
    rows = tuple((k.name, note) for k in report.kernels for note in k.notes)
    return Table("How tiles are moved", ("kernel", "how"), rows)


def _decisions(report: Report) -> Table:
    rows = tuple((e.decision, e.rule, reason_of(e), _saved(e), places(e.sources)) for e in report.ledger)
    return Table("Decisions", ("decision", "by", "why", "saves", "from"), rows, frozenset({"saves"}))


def reason_of(entry: LedgerRow) -> str:
    """The reason; one that does not name the value that it is about is told which."""
    words = re.findall(r"%(\w+)", entry.reason)
    return entry.reason if not entry.values or set(words) & set(entry.values) else f"%{entry.values[0]}: {entry.reason}"


def _changes(report: Report) -> Table:
    alike = {(e.decision, e.rule): e.change for e in report.ledger if e.change}
    rows = tuple((decision, rule, change) for (decision, rule), change in alike.items())
    return Table("What would change them", ("decision", "by", "what would change it"), rows)


def _derivations(report: Report) -> Table:
    rows = tuple((d.value, s.rule, s.before, s.after) for d in report.derivations for s in d.steps)
    return Table("Derivations", ("value", "rule", "before", "after"), rows)


def _notes(report: Report) -> Table:
    alike: dict[str, list[NoteRow]] = {}
    for note in report.notes:
        alike.setdefault(note.text, []).append(note)
    rows = tuple(
        (text, _some([n.value for n in notes]), places(tuple(n.source for n in notes if n.source)))
        for text, notes in alike.items()
    )
    return Table("Computed not quite as written", ("what", "values", "from"), rows)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def schedule_text(kernel: KernelRow) -> str:
    """The axes with their roles; ``ATen`` for a call that was kept as it is, ``library`` for one that was faster."""
    if kernel.kind != "triton":
        return {"extern": "ATen", "library": "library"}[kernel.kind]
    return axes_text(kernel.schedule)


def axes_text(schedule: Mapping[str, Any]) -> str:
    """``i: grid(128), k: loop(64), d: whole``."""
    return ", ".join(_role(axis) for axis in schedule.get("axes", ()))


def _role(axis: Mapping[str, Any]) -> str:
    return f"{axis['axis']}: {axis['role']}" + ("" if axis["role"] == "whole" else f"({axis['tile']})")


def counted(names: tuple[str, ...]) -> str:
    """``mul x3, contract``: each name once, with how often it occurs."""
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in counts.items())


def places(sources: tuple[str, ...]) -> str:
    """``model.py:12,15 other.py:3``: files without their folders, the lines of each together."""
    lines: dict[str, list[str]] = {}
    for source in sources:
        file, _, line = source.rpartition(":")
        found = lines.setdefault(Path(file).name, [])
        if line not in found:
            found.append(line)
    return " ".join(f"{file}:{','.join(numbers)}" for file, numbers in lines.items())


def _saved(entry: LedgerRow) -> str:
    return "" if entry.bytes is None else quantity(entry.bytes, "B")


def _microseconds(time: float | None) -> str:
    if time is None:
        return ""
    return f"{time:.1g} us" if time < 0.1 else f"{time:.1f} us" if time < 1e4 else f"{time / 1e3:.1f} ms"


def quantity(value: Quantity, unit: str) -> str:
    """``12.3 MB``; symbolic text stays as it is."""
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return f"{value} {unit}"
    for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        if abs(value) >= 1000**power:
            return f"{value / 1000**power:.1f} {prefix}{unit}"
    return f"{value} {unit}"
