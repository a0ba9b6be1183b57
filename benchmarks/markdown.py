"""Tables in Markdown, and sections of a page that are written by a command."""

from __future__ import annotations

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a row of titles. Columns that no row fills are left out."""
    filled = [n for n in range(len(columns)) if not rows or any(row[n] for row in rows)]
    lines = ([row[n] for n in filled] for row in (columns, ["---"] * len(columns), *rows))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    """``text`` as it may stand in a table."""
    return " ".join(text.split()).replace("|", "/")[:120]


def between(page: str, marker: str, section: str) -> str:
    """``page`` with ``section`` between its comments ``<!-- marker -->`` and ``<!-- /marker -->``.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no {begin} ... {end}")
    return "\n\n".join(part for part in (before + begin, section, end + after) if part)
