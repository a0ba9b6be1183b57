"""Writes what was measured into the README, between its markers: ``python -m benchmarks.table``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.attention_table import attention_section
from benchmarks.markdown import between, table
from benchmarks.processes import ROOT
from benchmarks.records import ATTENTION_RESULTS, RESULTS, Record, saved

_COLUMNS = ("model", "with", "time", "peak memory", "compile cold", "compile warm", "error / allowed")


def markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table of cases and contenders."""
    rows: list[tuple[str, ...]] = []
    for case in cases:
        if failure := case.get("failure"):
            rows.append((case["title"], f"failed: {failure}", *[""] * 5))
        for name, found in case["contenders"].items():
            rows.append((case["title"], name, *_cells(found)))
    return table(_COLUMNS, rows)


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    error = f"{found['error']:.2e} / {found['allowed']:.2e}" if "error" in found else found.get("failure", "")
    return (
        f"{found['ms']:.3f} ms" if "ms" in found else "",
        f"{found['peak_bytes'] / 2**20:.0f} MiB" if found.get("peak_bytes") is not None else "",
        _seconds(found.get("cold")),
        _seconds(found.get("warm")),
        error if found.get("kept", True) else f"{error}: promise broken",
    )


def _seconds(compiled: Mapping[str, Any] | None) -> str:
    if compiled is None:
        return ""
    return f"{compiled['seconds']:.1f} s" if "seconds" in compiled else f"failed: {compiled.get('failure')}"


def section(results: Sequence[Record]) -> str:
    """The README's section: one table for each file of results."""
    parts = []
    for r in results:
        versions = ", ".join(f"{name} {version}" for name, version in r["versions"].items())
        parts.append(f"{r['device']}, {versions}, {r['date']}, `{r['command']}`:\n\n{markdown(r['cases'])}")
    return "\n\n".join(parts)


def main() -> None:
    """Rewrite the README from every file of results."""
    readme = ROOT / "README.md"
    page = between(readme.read_text(encoding="utf-8"), "benchmarks", section(saved(RESULTS)))
    readme.write_text(between(page, "attention", attention_section(saved(ATTENTION_RESULTS))), encoding="utf-8")


if __name__ == "__main__":
    main()
