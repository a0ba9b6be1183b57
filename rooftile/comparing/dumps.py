"""``rooftile diff``: the graphs after each pass, decisions, kernels and totals of two dumps, told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from rooftile.comparing.data import Change, DecisionChange, DumpDiff, KernelChange, PassChange, Status
from rooftile.errors import OptionError
from rooftile.ir.canonical import canonical_text
from rooftile.ir.parser import parse_graph
from rooftile.runtime.cache_key import compiled_lines

_REPORT = "report.json"
# What of a kernel's row in the report is compared, beside its code.
_TIME = "time_us"  # differs from one run to the next: shown, and no difference of what is compiled
_KERNEL_FACTS = ("kind", "bytes", "flops", "floor_us", _TIME, "reads", "writes", "ops", "loops", "notes")


def diff_dumps(a: Path, b: Path) -> DumpDiff:
    """What differs between the dumps in folders ``a`` and ``b``, further graphs in them included.

    Raises:
        OptionError: one of them is no dump.
    """
    ours, theirs = ({g.name: g for g in _graphs(folder)} for folder in (a, b))
    names = dict.fromkeys((*ours, *theirs))
    pairs = [(name, ours.get(name, _NOTHING), theirs.get(name, _NOTHING)) for name in names]
    return DumpDiff(
        a=str(a),
        b=str(b),
        facts=tuple(change for name, one, other in pairs for change in _facts(name, one, other)),
        passes=tuple(row for name, one, other in pairs for row in _passes(name, one, other)),
        kernels=tuple(row for name, one, other in pairs for row in _kernels(name, one, other)),
        decisions=tuple(row for name, one, other in pairs for row in _decisions(name, one, other)),
    )


@dataclass(frozen=True)
class _Dumped:
    """One graph's folder: its report, the texts of its stages by pass, and of its kernels by name."""

    name: str
    report: Mapping[str, Any]
    stages: Mapping[str, str]
    sources: Mapping[str, str]


_NOTHING = _Dumped("", {}, {}, {})


def _graphs(folder: Path) -> Iterator[_Dumped]:
    if not (folder / _REPORT).is_file():
        raise OptionError(f"no dump in {str(folder)!r}", fix="a folder that `rooftile dump` wrote")
    for each in (folder, *sorted(folder.glob("graph-*"))):
        if (each / _REPORT).is_file():
            yield _Dumped(
                name="" if each == folder else each.name,
                report=_report(each / _REPORT),
                stages={p.stem.partition("-")[2]: p.read_text(encoding="utf-8") for p in sorted(each.glob("*.ir"))},
                sources={p.stem: p.read_text(encoding="utf-8") for p in sorted((each / "kernels").glob("*.py"))},
            )


def _report(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        return found
    except ValueError as error:
        raise OptionError(
            f"{file} is no report: {error}", fix="write it anew: rooftile dump MODEL --out FOLDER"
        ) from error


def _facts(graph: str, a: _Dumped, b: _Dumped) -> Iterator[Change]:
    """Device, versions and totals that differ."""
    for part in ("device", "versions", "totals"):
        one, other = (_flat(part, dumped.report.get(part)) for dumped in (a, b))
        for name in dict.fromkeys((*one, *other)):
            if one.get(name) != other.get(name):
                yield Change(f"{graph} {name}".strip(), one.get(name), other.get(name))


def _flat(name: str, value: Any) -> dict[str, Any]:
    return {f"{name} {key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}


def _passes(graph: str, a: _Dumped, b: _Dumped) -> Iterator[PassChange]:
    for name in dict.fromkeys((*a.stages, *b.stages)):
        one, other = a.stages.get(name), b.stages.get(name)
        if one is None or other is None:
            yield PassChange(graph, name, _only(one is None))
        elif one == other or _canonical(one) == _canonical(other):
            yield PassChange(graph, name, "same")
        else:
            yield PassChange(graph, name, "changed", _diff(one.splitlines(), other.splitlines()))


def _canonical(text: str) -> str:
    return canonical_text(parse_graph(text))


def _kernels(graph: str, a: _Dumped, b: _Dumped) -> Iterator[KernelChange]:
    rows_a, rows_b = ({row["name"]: row for row in _rows(dumped.report)} for dumped in (a, b))
    for name in dict.fromkeys((*rows_a, *rows_b)):
        if name not in rows_a or name not in rows_b:
            yield KernelChange(graph, name, _only(name not in rows_a))
            continue
        changes = tuple(_row_changes(rows_a[name], rows_b[name]))
        code_a, code_b = (compiled_lines(dumped.sources.get(name, "")) for dumped in (a, b))
        diff = _diff(code_a, code_b)
        differs = bool(diff) or any(change.name != _TIME for change in changes)
        yield KernelChange(graph, name, "changed" if differs else "same", changes, diff)


def _rows(report: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The kernels of every call, and those that run once."""
    return (*report.get("kernels", ()), *report.get("packed", ()))


def _row_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    one, other = (_schedules(row) | {key: row.get(key) for key in _KERNEL_FACTS} for row in (a, b))
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            yield Change(name, one.get(name), other.get(name))


def _schedules(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kernel's schedule; of a shared launch, those of its members under their names."""
    members = row.get("members") or ()
    inside = {f"{each['name']}: {name}": value for each in members for name, value in _schedule(each).items()}
    return _schedule(row) | inside


def _schedule(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kernel's schedule by option, its axes as text."""
    schedule = dict(row.get("schedule") or {})
    axes = schedule.pop("axes", ())
    shown = ", ".join(f"{x['axis']} < {x['extent']}: {x['role']}({x['tile']})" for x in axes)
    return {"schedule axes": shown} | {f"schedule {name}": value for name, value in schedule.items()}


def _decisions(graph: str, a: _Dumped, b: _Dumped) -> Iterator[DecisionChange]:
    one, other = (list(_said(dumped.report)) for dumped in (a, b))
    yield from (DecisionChange(graph, "only in a", *each) for each in _beside(one, other))
    yield from (DecisionChange(graph, "only in b", *each) for each in _beside(other, one))


_Said = tuple[str, str, str, tuple[str, ...]]


def _said(report: Mapping[str, Any]) -> Iterator[_Said]:
    """Decisions, derivations and notes, each as (kind, rule, text, sources)."""
    for entry in report.get("ledger", ()):
        yield entry["decision"], entry["rule"], entry["reason"], tuple(entry["sources"])
    for derived in report.get("derivations", ()):
        for step in derived["steps"]:
            yield "derived", step["rule"], f"%{derived['value']}: {step['before']} becomes {step['after']}", ()
    for note in report.get("notes", ()):
        yield "note", "", f"%{note['value']} {note['text']}", (note["source"],) if note["source"] else ()


def _beside(mine: Iterable[_Said], theirs: Iterable[_Said]) -> Iterator[_Said]:
    """What is in ``mine`` more often than in ``theirs``."""
    left = list(theirs)
    for each in mine:
        if each in left:
            left.remove(each)
        else:
            yield each


def _only(in_b: bool) -> Status:
    return "only in b" if in_b else "only in a"


def _diff(a: list[str], b: list[str]) -> str:
    return "".join(f"{line}\n" for line in unified_diff(a, b, "a", "b", lineterm="", n=1))
