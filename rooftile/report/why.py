"""All that a report knows of one value, and the part of a report that is about one line of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rooftile.compilation import Compilation
from rooftile.errors import OptionError
from rooftile.ir.core import Loc, Op
from rooftile.ir.printer import print_op
from rooftile.report.data import DerivationRow, KernelRow, LedgerRow, NoteRow, Report
from rooftile.report.tree import line_of


@dataclass(frozen=True)
class MadeRow:
    """How a value is made after a pass: the op's text, without where it is from."""

    after: str
    op: str


@dataclass(frozen=True)
class WhyRow:
    """Everything about one value.

    ``made`` lists the passes behind which it is made differently. It is computed in ``computed_by``, kept in memory by
    ``stored_by`` (no kernel: it stays on chip) for ``read_by``; ``verdict`` says in words why it is stored or not.
    """

    value: str
    module: str
    source: str
    text: str
    made: tuple[MadeRow, ...]
    computed_by: tuple[str, ...]
    stored_by: tuple[str, ...]
    read_by: tuple[str, ...]
    verdict: str
    decisions: tuple[LedgerRow, ...]
    derivations: tuple[DerivationRow, ...]
    notes: tuple[NoteRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON's types. docs/schemas/why.schema.json has the schema."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def why(report: Report, name: str) -> list[WhyRow]:
    """What is known of the value ``name`` (with or without its ``%``), once for each graph that has it.

    Raises:
        OptionError: no graph has a value of that name before kernels are formed.
    """
    name = name.removeprefix("%")
    rows = [row for each in report.compilations if (row := _about(report, each, name)) is not None]
    if not rows:
        known = {v.name for c in report.compilations for stage in c.flat for v in stage.graph.values()}
        raise OptionError(f"no value is called {name!r}", fix=_close(name, known))
    return rows


def _about(report: Report, compilation: Compilation, name: str) -> WhyRow | None:
    found = [(after, op) for after, op in _makers(compilation, name)]
    given = next((v for v in compilation.imported.inputs if v.name == name), None)
    if not found and given is None:
        return None
    loc = found[-1][1].loc if found else Loc()
    prefix = _prefix(report, compilation)
    kernels = _kernels_of(report, compilation)
    readers = [k for k in kernels if prefix + name in k.reads]
    computed = tuple(k.name for k in kernels if name in k.values)
    stored = tuple(k.name for k in kernels if prefix + name in k.writes)
    decisions = tuple(row for row in report.ledger if name in row.values)
    return WhyRow(
        value=name,
        module=loc.module,
        source=loc.source,
        text=line_of(loc.source) if loc.source else "",
        made=_differing(found),
        computed_by=computed,
        stored_by=stored,
        read_by=tuple(k.name for k in readers),
        verdict=_verdict(compilation, name, given is not None, stored, computed, readers, decisions),
        decisions=decisions,
        derivations=tuple(row for row in report.derivations if row.value == name or _mentioned(name, row)),
        notes=tuple(row for row in report.notes if row.value == name),
    )


def _prefix(report: Report, compilation: Compilation) -> str:
    """What tells the buffers of one graph from those of others."""
    return "" if len(report.compilations) == 1 else f"{report.compilations.index(compilation)}/"


def _kernels_of(report: Report, compilation: Compilation) -> Sequence[KernelRow]:
    first = 0
    for each in report.compilations:
        count = len(each.plan.steps) if each.plan else 0
        if each is compilation:
            return report.kernels[first : first + count]
        first += count
    return ()


def _makers(compilation: Compilation, name: str) -> Iterator[tuple[str, Op]]:
    for stage in compilation.flat:
        yield from ((stage.name, op) for op in stage.graph.ops if any(v.name == name for v in op.outputs))


def _differing(found: Iterable[tuple[str, Op]]) -> tuple[MadeRow, ...]:
    rows: list[MadeRow] = []
    for after, op in found:
        text = print_op(replace(op, loc=Loc())).strip()
        if not rows or rows[-1].op != text:
            rows.append(MadeRow(after, text))
    return tuple(rows)


def _mentioned(name: str, row: DerivationRow) -> bool:
    words = {w.strip("(),:;'") for step in row.steps for w in f"{step.before} {step.after}".split()}
    return f"%{name}" in words


def _verdict(
    compilation: Compilation,
    name: str,
    given: bool,
    stored: Sequence[str],
    computed: Sequence[str],
    readers: Sequence[KernelRow],
    decisions: Sequence[LedgerRow],
) -> str:
    """Why the value is in memory, or why not."""
    cuts = [row for row in decisions if row.decision == "cut" and row.values[0] == name]
    fused = [row for row in decisions if row.decision == "fused" and row.values[0] == name and row.rule != "launch"]
    if given:
        return "it is an input of the graph, or a weight"
    if cuts:
        return "it is stored, so that what makes it and what reads it did not fuse: " + cuts[-1].reason
    if any(v.name == name for v in compilation.imported.outputs):
        return "it is stored since it is a result of the graph"
    if stored and not fused:
        return _undecided(name, readers)
    if fused and stored:
        return "it is stored on the way: " + fused[-1].reason
    if fused:
        return "it never reaches memory: " + fused[-1].reason
    if computed:
        return "it stays on chip: it costs little, and each kernel that reads it computes it"
    return "it is gone: a rewrite has put another value in its place, or it only renames elements"


def _undecided(name: str, readers: Sequence[KernelRow]) -> str:
    """Why a value is stored of which no decision says so."""
    calls = [kernel.name for kernel in readers if kernel.kind != "triton"]
    if calls:
        return f"it is stored, since a call that is no kernel of ours reads it: {', '.join(calls)}"
    if len(readers) > 1:
        return f"it is stored, since several kernels start from it: {', '.join(kernel.name for kernel in readers)}"
    return "it is stored: a pass behind fuse cut its kernel, or looks at what the reader's loop is to visit"


def why_stored(report: Report, compilation: Compilation) -> dict[str, tuple[str, str]]:
    """For each value that passes from one kernel to another, why it is stored, and what would change that."""
    prefix = _prefix(report, compilation)
    about: dict[str, list[LedgerRow]] = {}
    for row in report.ledger:
        for value in dict.fromkeys(row.values):
            about.setdefault(value, []).append(row)
    readers: dict[str, list[KernelRow]] = {}
    kernels = _kernels_of(report, compilation)
    for kernel in kernels:
        for buffer in kernel.reads:
            readers.setdefault(buffer, []).append(kernel)
    found = {}
    for kernel in kernels:
        for buffer in kernel.writes:
            name, rows = buffer.removeprefix(prefix), about.get(buffer.removeprefix(prefix), [])
            told = _verdict(compilation, name, False, (kernel.name,), (), readers.get(buffer, ()), rows)
            changes = [row.change for row in rows if row.decision == "cut" and row.values[0] == name and row.change]
            found[name] = told, changes[-1] if changes else ""
    return found


def about_line(report: Report, place: str) -> Report:
    """The part of ``report`` that is about the line ``place`` (``file:line``; the file's folders may be left out).

    Raises:
        OptionError: nothing in the report is from that line.
    """
    known = dict.fromkeys(s for k in report.kernels for s in k.sources)
    known |= dict.fromkeys(s for row in report.ledger for s in row.sources)
    wanted = {source for source in known if _is(source, place)}
    if not wanted:
        names = [f"{Path(s.rpartition(':')[0]).name}:{s.rpartition(':')[2]}" for s in known]
        raise OptionError(f"nothing was compiled from the line {place!r}", fix=_close(place, names))
    kernels = tuple(k for k in report.kernels if wanted.intersection(k.sources))
    kernels = tuple(replace(k, lines=tuple(line for line in k.lines if line.source in wanted)) for k in kernels)
    ledger = tuple(row for row in report.ledger if wanted.intersection(row.sources))
    named = {value for row in ledger for value in row.values}
    return replace(
        report,
        kernels=kernels,
        ledger=ledger,
        derivations=tuple(row for row in report.derivations if row.value in named),
        notes=tuple(row for row in report.notes if row.source in wanted),
    )


def _close(wanted: str, known: Iterable[str]) -> str:
    """The nearest names: all of them would be too many."""
    found = get_close_matches(wanted, list(known), n=4, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else "rooftile explain lists what there is"


def _is(source: str, place: str) -> bool:
    return source == place or source.endswith(f"/{place.removeprefix('./')}")
