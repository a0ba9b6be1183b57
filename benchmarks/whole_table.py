"""The findings of ``benchmarks.whole``: a row for each case, and what our kernels take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.blocks_table import TORCH, UNTUNED, best_of, faults, modes_of, pair, time_of
from benchmarks.markdown import table
from benchmarks.records import Record, by_machine

_MOST_SHOWN = 40
_COLUMNS = (
    "model",
    "eager",
    "torch.compile's modes",
    "torch.compile's best",
    "rooftile",
    "speed against torch.compile",
    "launches",
    "first call, cold",
    "peak memory",
    "faults",
)


def whole_markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """The table of cases. A cell with a time names the mode that was the fastest, where it isn't the plain one; where a
    cell has two numbers, torch.compile's comes first."""
    return table(_COLUMNS, [_row(case) for case in cases])


def whole_section(records: Sequence[Record]) -> str:
    """The tables, each under the device and the versions that it was measured with."""
    if not records:
        return "Nothing has been measured yet: `python -m benchmarks.whole --device cuda`."
    return by_machine(records, whole_markdown)


def _row(case: Mapping[str, Any]) -> tuple[str, ...]:
    found: Mapping[str, Any] = case["contenders"]
    theirs, ours = best_of(found, TORCH), best_of(found, UNTUNED)
    steps = next((found[n]["steps"] for n in UNTUNED if "steps" in found.get(n, {})), [])
    return (
        case["title"],
        time_of(best_of(found, ("eager",)), ("eager",)),
        modes_of(found),
        time_of(theirs, TORCH),
        time_of(ours, UNTUNED),
        f"{theirs[1] / ours[1]:.2f}" if theirs and ours else "",
        str(sum(steps)) if steps else "",
        # Whoever came first had cold caches.
        pair(*(_most(found, names, "first_call") for names in (TORCH, UNTUNED)), 1, "s"),
        pair(*(_most(found, names[:1], "peak_bytes") for names in (TORCH, UNTUNED)), 2**20, "MiB"),
        "; ".join(faults(case)),
    )


def _most(found: Mapping[str, Any], names: Sequence[str], key: str) -> float | None:
    return max((found[n][key] for n in names if found.get(n, {}).get(key) is not None), default=None)


def kernels_text(case: Mapping[str, Any]) -> str:
    """What each kernel of ours takes in a call, the slowest first, and how much of the call no kernel ran in."""
    lines = []
    for name, found in case["contenders"].items():
        if rows := found.get("kernels"):
            total = sum(row["us"] for row in rows)
            lines.append(f"{case['case']}, {name}: {found['ms'] * 1e3:.0f} us, in kernels {total:.0f} us")
            lines += [f"  {row['us']:8.1f} us {row['count']:6.1f} x {row['name'][:90]}" for row in rows[:_MOST_SHOWN]]
    return "\n".join(lines)
