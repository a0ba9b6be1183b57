"""Writes what was measured into the README, between its two markers: ``python -m benchmarks.table``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"

_COLUMNS = ("model", "with", "time", "peak memory", "compile cold", "compile warm", "error / allowed")


def markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table of cases and contenders."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    for case in cases:
        if failure := case.get("failure"):
            rows.append((case["title"], f"failed: {failure}", *[""] * 5))
        for name, found in case["contenders"].items():
            rows.append((case["title"], name, *_cells(found)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


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


def section(results: Sequence[Mapping[str, Any]]) -> str:
    """The README's section: one table for each device."""
    parts = []
    for r in results:
        versions = ", ".join(f"{name} {version}" for name, version in r["versions"].items())
        parts.append(f"{r['device']}, {versions}, {r['date']}, `{r['command']}`:\n\n{markdown(r['cases'])}")
    return "\n\n".join(parts)


def rewritten(readme: str, results: Sequence[Mapping[str, Any]]) -> str:
    """``readme`` with the tables between its markers.

    Raises:
        ValueError: the README has no markers.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{section(results)}\n\n{END}{after}"


def main() -> None:
    """Rewrite the README from every file of results."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    readme = ROOT / "README.md"
    readme.write_text(rewritten(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
