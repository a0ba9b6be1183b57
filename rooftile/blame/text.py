"""What ``check`` found, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rooftile.blame.data import BlameRow, CheckReport
from rooftile.report.text import Table, rich_table

_SOURCES_SHOWN = 3


def as_rich(report: CheckReport) -> object:
    """A rich renderable: the headline, then the tables that have rows."""
    from rich.console import Group
    from rich.text import Text

    parts = (_outputs(report), _blame(report), _nonfinite(report))
    shown = [rich_table(table) for table in parts if table.rows]
    return Group(*(Text(line) for line in headline(report)), *shown, *(Text(line) for line in _closing(report)))


def headline(report: CheckReport) -> Iterator[str]:
    """What was checked, and the verdict."""
    yield f"{report.device} ({', '.join(f'{name} {version}' for name, version in report.versions.items())})"
    broken = [row for row in report.outputs if not row.kept]
    yield (
        f"the promise is broken for {len(broken)} of {len(report.outputs)} results"
        if broken
        else f"the promise holds for all {len(report.outputs)} results"
    )
    for row in report.faults:
        yield f"to blame: {row.kind} {row.name}" + (f" ({row.note})" if row.note else "")
    if report.uncompiled:
        yield f"{report.uncompiled} graphs run as they are and were not checked"


def _closing(report: CheckReport) -> Iterator[str]:
    for row in report.blame:
        if row.off:
            why = "is wrong" if row.wrong else f"adds {row.adds:.2e}, more than the budget of {report.budget:.2e}"
            yield f"turned off: {row.name}, which {why}"
    if report.without:
        yield f'so compiled: options={{"without": {list(report.without)}}}'


def _outputs(report: CheckReport) -> Table:
    rows = tuple(
        (
            row.graph,
            f"%{row.output}",
            f"{row.ours:.2e}",
            f"{row.eager:.2e}",
            f"{row.allowed:.2e}",
            "kept" if row.kept else "broken" if row.same_nonfinite else "broken: NaN or infinity where eager has none",
        )
        for row in report.outputs
    )
    columns = ("graph", "result", "error", "eager's", "allowed", "promise")
    return Table("Results, against float64", columns, rows, frozenset({"error", "eager's", "allowed"}))


def _blame(report: CheckReport) -> Table:
    rows = tuple(
        (
            row.kind,
            ("  " if row.kind == "rewrite" else "") + row.name,
            str(row.places),
            f"{row.adds:+.1e}",
            "" if row.means is None else f"{row.means:.0e}",
            _verdict(row),
            _shown_sources(row),
        )
        for row in report.blame
    )
    columns = ("kind", "name", "places", "adds", "in float64", "verdict", "from")
    return Table("What each adds to the error, alone", columns, rows, frozenset({"places", "adds", "in float64"}))


def _verdict(row: BlameRow) -> str:
    words = [*(["wrong"] if row.wrong else []), *([row.note] if row.note else []), *(["turned off"] if row.off else [])]
    return "; ".join(words)


def _shown_sources(row: BlameRow) -> str:
    names = [_without_folder(source) for source in row.sources]
    more = len(names) - _SOURCES_SHOWN
    return ", ".join(names[:_SOURCES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _without_folder(source: str) -> str:
    return source.rpartition("/")[2]


def _nonfinite(report: CheckReport) -> Table:
    rows = tuple(
        (row.graph, row.run, row.what, row.op, row.kernel, _without_folder(row.source)) for row in report.nonfinite
    )
    return Table("The first to make one", ("graph", "run", "makes", "op", "kernel", "from"), rows)
