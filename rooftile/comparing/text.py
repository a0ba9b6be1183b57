"""The differences of two dumps, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rooftile.comparing.data import DumpDiff, KernelChange
from rooftile.report.text import Table, rich_table

_LINES_SHOWN = 40  # of one diff; the folders hold the rest


def as_rich(diff: DumpDiff) -> Any:
    """A rich renderable: the tables that have rows, then the first pass that differs and the kernels' code."""
    from rich.console import Group
    from rich.syntax import Syntax
    from rich.text import Text

    if diff.same:
        head = "the same is compiled" + (", though these differ:" if diff.facts else "")
    else:
        head = f"a: {diff.a}\nb: {diff.b}"
    shown: list[Any] = [Text(head), *(rich_table(table) for table in tables(diff) if table.rows)]
    for title, text in _diffs(diff):
        lines = text.splitlines()
        more = f"\n... {len(lines) - _LINES_SHOWN} more lines" if len(lines) > _LINES_SHOWN else ""
        shown += [Text(title, "bold"), Syntax("\n".join(lines[:_LINES_SHOWN]) + more, "diff", theme="ansi_dark")]
    return Group(*shown)


def tables(diff: DumpDiff) -> Iterator[Table]:
    """What differs, in tables."""
    facts = tuple((c.name, _text(c.a), _text(c.b)) for c in diff.facts)
    yield Table("Of the whole", ("what", "a", "b"), facts)
    rows = tuple((p.graph, p.name, p.status) for p in diff.passes if p.status != "same")
    yield Table("Passes after which the graphs differ", ("graph", "pass", "status"), rows)
    kernels = tuple(row for kernel in diff.kernels for row in _kernel_rows(kernel))
    yield Table("Kernels", ("graph", "kernel", "what", "a", "b"), kernels)
    said = tuple((d.graph, d.status, d.kind, d.rule, d.text, ", ".join(d.sources)) for d in diff.decisions)
    yield Table("Decisions", ("graph", "status", "decision", "by", "why", "from"), said)


def _kernel_rows(kernel: KernelChange) -> Iterator[tuple[str, ...]]:
    if kernel.status not in ("same", "changed"):
        yield kernel.graph, kernel.name, kernel.status, "", ""
    for change in kernel.changes:
        yield kernel.graph, kernel.name, change.name, _text(change.a), _text(change.b)
    if kernel.diff:
        lines = [line for line in kernel.diff.splitlines() if not line.startswith(("---", "+++"))]
        removed, added = (sum(line.startswith(sign) for line in lines) for sign in "-+")
        yield kernel.graph, kernel.name, "lines of code", f"-{removed}", f"+{added}"


def _diffs(diff: DumpDiff) -> Iterator[tuple[str, str]]:
    first = next((p for p in diff.passes if p.status == "changed"), None)
    if first is not None:
        yield f"After {first.name}, the first pass that differs", first.diff
    yield from ((f"Code of {kernel.name}", kernel.diff) for kernel in diff.kernels if kernel.diff)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
