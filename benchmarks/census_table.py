"""The census in docs/models.md, from ``benchmarks/results/census``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.records import Record, heading

Findings = Mapping[str, Any]
_WORDS = 140  # characters of a reason

# What may have become of an architecture, the first that holds: how it is called, and what tells rows apart in it.
_GROUPS: tuple[tuple[str, Callable[[Findings], bool], Callable[[Findings], str]], ...] = (
    ("not built", lambda f: f.get("stage") in (None, "building"), lambda f: _short(f["failure"])),
    ("failed", lambda f: "failure" in f, lambda f: f"{f['stage']}: {_short(f['failure'])}"),
    ("not right", lambda f: not f["kept"], lambda f: f"{f['error']:.1e}, {f['allowed']:.1e} allowed"),
    ("in pieces", lambda f: f["graphs"] > 1 or f["uncompiled"], lambda f: _pieces(f)),
    ("one graph, with ATen calls", lambda f: bool(f["externs"]), lambda f: ", ".join(_calls(f))),
    ("one graph, all fused", lambda f: True, lambda f: ""),
)


def census_section(records: Sequence[Record]) -> str:
    """For each version of transformers how many architectures came how far, and which; one line where there is none."""
    if not records:
        return "Nothing has been counted yet: `python -m benchmarks.census`."
    return "\n\n".join(_section(r) for r in records)


def _section(record: Record) -> str:
    (case,) = record["cases"]
    found: Mapping[str, Findings] = case["architectures"]
    rows: dict[str, dict[str, list[str]]] = {group: {} for group, _, _ in reversed(_GROUPS)}
    for name, findings in sorted(found.items()):
        group, told = grouped(findings)
        rows[group].setdefault(told, []).append(name)
    became = table(
        ("what became of it", "how many", "which, or why", "architectures"),
        [
            (group, str(len(names)), told, ", ".join(names))
            for group, kinds in rows.items()
            for told, names in sorted(kinds.items(), key=lambda row: (-len(row[1]), row[0]))
        ],
    )
    return "\n\n".join((f"{heading(record, case['case'])}:", _summary(found, case["known"]), became))


def _summary(found: Mapping[str, Findings], known: int) -> str:
    """The counts in one sentence."""
    groups = [grouped(f)[0] for f in found.values()]
    built = len(groups) - groups.count("not built")
    right = built - groups.count("failed") - groups.count("not right")
    seconds = sorted(f["compile"] for f in found.values() if "compile" in f)
    middle = f" Compiling took {seconds[len(seconds) // 2]:.1f} s in the middle." if seconds else ""
    return (
        f"Of {known} architectures {len(groups)} were counted, of which {built} could be built small and run. {right} "
        f"gave eager's answer within the promise, {groups.count('one graph, all fused')} of these as one graph of "
        f"our kernels alone.{middle}"
    )


def grouped(findings: Findings) -> tuple[str, str]:
    """What became of an architecture, and what of it is told."""
    group, _, tell = next(row for row in _GROUPS if row[1](findings))
    return group, tell(findings)


def _pieces(findings: Findings) -> str:
    breaks = sorted({_short(b["reason"].partition(":")[0]) for b in findings["breaks"]})
    uncompiled = ["some graphs uncompiled"] if findings["uncompiled"] else []
    return "; ".join([*breaks, *uncompiled, *_calls(findings)]) or f"{findings['graphs']} graphs"


def _calls(findings: Findings) -> list[str]:
    return [f"`{target}`" for target in sorted({e["target"] for e in findings["externs"]})]


def _short(words: str) -> str:
    """A reason, in one sentence that a cell of a table has room for."""
    words = words.partition(". ")[0]
    words = words.replace("|", "/").replace("<", "(").replace(">", ")")
    return words if len(words) <= _WORDS else f"{words[:_WORDS].rsplit(' ', 1)[0]} ..."
