"""The report in a terminal: the model as a tree with its kernels, the tables, what is known of a value or a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from rooftile.report.data import Report
from rooftile.report.text import Table, furthest, headline, places, reason_of, rich_table, tables, without
from rooftile.report.tree import ModuleNode, line_of, model_tree
from rooftile.report.why import WhyRow


def explanation(report: Report, derivations: bool = False) -> Any:
    """The whole report, derivations only where they are wanted."""
    parts: list[Any] = [Text(headline(report)), Text(furthest(report)), Text(), shown_tree(model_tree(report)), Text()]
    for table in tables(report, derivations):  # of kernels, the tree has said where they are from
        parts.append(rich_table(without(table, "from") if "x floor" in table.columns else table))
    if report.derivations and not derivations:
        count = len(report.derivations)
        parts.append(Text(f"{count} derivation{'s' if count > 1 else ''}: --derivations shows how sweeps were joined"))
    return Group(*parts)


def shown_tree(root: ModuleNode) -> Tree:
    """Modules and lines; behind each line the kernels that serve it."""
    tree = Tree(_module(root), guide_style="dim")
    _fill(tree, root)
    return tree


def _fill(tree: Tree, node: ModuleNode) -> None:
    for served in node.sorted_lines():
        line = Text.assemble((places((served.source,)), "dim"), "  ", served.text, "  ")
        tree.add(line.append(", ".join(served.kernels), "cyan"))
    for child in node.children.values():
        _fill(tree.add(_module(child)), child)


def _module(node: ModuleNode) -> Text:
    count = len(node.kernels)
    return Text.assemble((node.name, "bold"), (f"  {count} kernel{'' if count == 1 else 's'}", "dim"))


def about_values(rows: Sequence[WhyRow]) -> Any:
    """All that is known of a value."""
    return Group(*(part for row in rows for part in _about(row)))


def _about(row: WhyRow) -> list[Any]:
    place = "  ".join(part for part in (row.module, places((row.source,)) if row.source else "", row.text) if part)
    facts = [("is made in", place), ("", row.verdict)]
    facts += [
        (title, ", ".join(names))
        for title, names in (
            ("is computed by", row.computed_by),
            ("is stored by", row.stored_by),
            ("is read by", row.read_by),
        )
        if names
    ]
    parts: list[Any] = [Text(f"%{row.value}", style="bold")]
    parts += [Text.assemble("  ", (f"{title:<15}", "dim"), text) for title, text in facts if text]
    parts.append(Text())
    found = [
        Table("How it is made", ("behind", "op"), tuple((made.after, made.op) for made in row.made)),
        Table(
            "Decisions that name it",
            ("decision", "by", "why", "what would change it"),
            tuple((e.decision, e.rule, reason_of(e), e.change) for e in row.decisions),
        ),
        Table(
            "Derivations",
            ("value", "rule", "before", "after"),
            tuple((d.value, s.rule, s.before, s.after) for d in row.derivations for s in d.steps),
        ),
        Table("Computed not quite as written", ("what",), tuple((note.text,) for note in row.notes)),
    ]
    return parts + [rich_table(table) for table in found if table.rows]


def about_lines(report: Report, place: str) -> Any:
    """The part of a report that is about one line, under the line itself."""
    sources = dict.fromkeys(line.source for kernel in report.kernels for line in kernel.lines)
    heads = [Text.assemble((source, "bold"), "  ", line_of(source)) for source in sources or {place: None}]
    ops = tuple((k.name, ", ".join(dict.fromkeys(op for line in k.lines for op in line.ops))) for k in report.kernels)
    of_line = rich_table(Table("What kernels compute of it", ("kernel", "ops"), ops))
    return Group(*heads, Text(), of_line, *(rich_table(table) for table in tables(report)))
