"""A report for people: the same tables as plain text and, on a terminal, through rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rooftile.report.data import KernelRow, LedgerRow, NoteRow, Quantity, Report

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; ``right`` names the columns that hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()


def tables(report: Report) -> Iterator[Table]:
    """The report's tables, those without rows left out."""
    parts = (_kernels, _loops, _options, _decisions, _derivations, _notes)
    return (table for part in parts if (table := part(report)).rows)


def headline(report: Report) -> str:
    """One line on what was compiled, and one on what that moves."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    t = report.totals
    graphs = "" if report.graphs == 1 else f" in {report.graphs} graphs"
    graphs += f", {report.uncompiled} of them not compiled" if report.uncompiled else ""
    moved = f"{quantity(t.bytes, 'B')} moved (op by op: {quantity(t.eager_bytes, 'B')}{_ratio(t.bytes, t.eager_bytes)})"
    work = f"{quantity(t.flops, 'FLOP')}, {quantity(t.peak_bytes, 'B')} at the peak"
    kernels = "1 kernel" if t.kernels == 1 else f"{t.kernels} kernels"
    return f"{report.device} ({versions})\n{kernels}{graphs}; {moved}; {work}"


def _ratio(ours: Quantity, eager: Quantity) -> str:
    return f", {eager / ours:.1f} times as much" if isinstance(ours, int) and isinstance(eager, int) and ours else ""


def as_text(report: Report) -> str:
    """Plain text, as wide as its longest row."""
    return "\n\n".join([headline(report), *(_plain(table) for table in tables(report))]) + "\n"


def as_rich(report: Report) -> Any:
    """A rich renderable, fitted to the terminal."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(headline(report)), *(rich_table(table) for table in tables(report)))


def rich_table(table: Table) -> Any:
    """The same table through rich."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in table.columns:
        shown.add_column(column, justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _plain(table: Table) -> str:
    rows = (table.columns, *table.rows)
    widths = [max(len(row[c]) for row in rows) for c in range(len(table.columns))]

    def line(row: tuple[str, ...]) -> str:
        cells = zip(table.columns, row, widths, strict=True)
        return "  ".join(cell.rjust(w) if name in table.right else cell.ljust(w) for name, cell, w in cells).rstrip()

    return "\n".join([table.title, line(table.columns), "  ".join("-" * w for w in widths), *map(line, table.rows)])


def _kernels(report: Report) -> Table:
    rows = tuple(
        (
            k.name,
            schedule_text(k),
            quantity(k.bytes, "B"),
            quantity(k.flops, "FLOP"),
            _microseconds(k.floor_us),
            _microseconds(k.time_us),
            counted(k.ops),
            places(k.sources),
        )
        for k in report.kernels
    )
    columns = ("kernel", "schedule", "moves", "computes", "floor", "time", "ops", "from")
    return Table("Kernels, in order", columns, rows, frozenset({"moves", "computes", "floor", "time"}))


def _loops(report: Report) -> Table:
    rows = tuple(
        (k.name, loop.axis, f"{loop.visited} of {loop.total}", ", ".join(loop.phases))
        for k in report.kernels
        for loop in k.loops
        if loop.visited != loop.total or len(loop.phases) > 1
    )
    return Table("Loops that skip steps or run in phases", ("kernel", "axis", "steps", "phases"), rows)


def _options(report: Report) -> Table:
    rows = tuple((k.name, note) for k in report.kernels for note in k.notes)
    return Table("How tiles are moved", ("kernel", "how"), rows)


def _decisions(report: Report) -> Table:
    rows = tuple((e.decision, e.rule, e.reason, _saved(e), places(e.sources)) for e in report.ledger)
    return Table("Decisions", ("decision", "by", "why", "saves", "from"), rows, frozenset({"saves"}))


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
    return ", ".join(_role(axis) for axis in kernel.schedule.get("axes", ()))


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
    return "" if time is None else f"{time:.1f} us" if time < 1e4 else f"{time / 1e3:.1f} ms"


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
