"""The findings of ``benchmarks.blocks`` as a table: a row for each block, the best of each side against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.markdown import table
from benchmarks.records import Record, by_machine

Case: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Mapping[str, Any]

TORCH = ("torch.compile", "torch.compile-graphs", "max-autotune", "max-autotune-graphs")
UNTUNED = ("rooftile", "rooftile-graphs")
TUNED = ("rooftile-tuned", "rooftile-tuned-graphs")
WITH_LIBRARY = ("rooftile-library", "rooftile-library-graphs")
_OURS = {"untuned": UNTUNED, "tuned": TUNED, "tuned, library too": WITH_LIBRARY}
_COLUMNS = (
    "block",
    "eager",
    "torch.compile's modes",
    "torch.compile's best",
    *(f"rooftile, {name}" for name in _OURS),
    *(f"speed, {name}" for name in _OURS),
    "weights read at",
    "peak memory",
    "host time of a call",
    "with graphs",
    "first call, cold",
    "first call, tuning",
    "faults",
)


_TOGETHER = (
    "From before the host's time was kept apart, so not to be held against the rows above: where the host takes longer "
    "for a call than the GPU, the time is the host's."
)


def blocks_markdown(cases: Sequence[Case]) -> str:
    """The table of cases.

    Times are the GPU's. A cell with one names the mode that was the fastest, where it isn't the plain one. Speeds are
    against the fastest mode of torch.compile that was timed. Where a cell has two numbers, torch.compile's comes first:
    memory, the host's time of calls, plain and with CUDA graphs, first calls with empty caches (tuning: that of
    max-autotune). With CUDA graphs memory is kept from call to call, and a call itself takes none. Weights are read at
    a share of a copy's bandwidth, in our fastest mode, where reading them is what takes the time.
    """
    return table(_COLUMNS, [_row(case) for case in cases])


def blocks_section(records: Sequence[Record]) -> str:
    """The README's section: a table of each device, set of versions and day; those from before the host's time was kept
    apart come last."""
    apart = [r for r in records if r["cases"][0].get("host_apart")]
    together = [r for r in records if r not in apart]
    parts = [
        by_machine(apart, blocks_markdown),
        *([_TOGETHER, by_machine(together, blocks_markdown)] if together else []),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(case: Case) -> tuple[str, ...]:
    found = case["contenders"]
    theirs, *ours = (best_of(found, names) for names in (TORCH, *_OURS.values()))
    return (
        case["title"],
        time_of(best_of(found, ("eager",)), ("eager",)),
        modes_of(found),
        time_of(theirs, TORCH),
        *(time_of(best, names) for best, names in zip(ours, _OURS.values(), strict=True)),
        *(f"{theirs[1] / best[1]:.2f}" if best and theirs else "" for best in ours),
        _bandwidth(case, min((best[1] for best in ours if best), default=None)),
        pair(_of(found, TORCH[0], "peak_bytes"), _of(found, UNTUNED[0], "peak_bytes"), 2**20, "MiB"),
        *(pair(_of(found, TORCH[n], "host_us"), _of(found, UNTUNED[n], "host_us"), 1, "us") for n in (0, 1)),
        pair(_cold(found, TORCH[0]), _cold(found, UNTUNED[0]), 1, "s", digits=1),
        pair(_cold(found, TORCH[2]), _cold(found, TUNED[0]), 1, "s", digits=1),
        "; ".join(faults(case)),
    )


def best_of(found: Mapping[str, Found], names: Sequence[str]) -> tuple[str, float] | None:
    """The fastest of ``names`` whose results were right, and its milliseconds."""
    times = {n: found[n]["ms"] for n in names if "ms" in found.get(n, {}) and found[n].get("kept", True)}
    return min(times.items(), key=lambda item: item[1]) if times else None


def time_of(best: tuple[str, float] | None, names: Sequence[str]) -> str:
    if best is None:
        return ""
    name, ms = best
    return f"{ms:.3f} ms" + ("" if name == names[0] else f" ({_mode(name)})")


def modes_of(found: Mapping[str, Found]) -> str:
    """The modes of torch.compile that were timed."""
    return ", ".join(_mode(name) for name in TORCH if "ms" in found.get(name, {}))


def _mode(contender: str) -> str:
    """How a contender compiles: its name without whose it is."""
    return contender.removeprefix("torch.compile").removeprefix("rooftile").removeprefix("-") or "default"


def _bandwidth(case: Case, ms: float | None) -> str:
    if ms is None or "weight_bytes" not in case:
        return ""
    return f"{case['weight_bytes'] / (ms * 1e-3) / case['copy_bandwidth']:.0%}"


def _of(found: Mapping[str, Found], name: str, key: str) -> float | None:
    number: float | None = found.get(name, {}).get(key)
    return number


def _cold(found: Mapping[str, Found], name: str) -> float | None:
    return found.get(name, {}).get("cold", {}).get("seconds")


def pair(theirs: float | None, ours: float | None, unit: float, name: str, digits: int = 0) -> str:
    """Two numbers in one cell, torch.compile's first."""
    if theirs is None and ours is None:
        return ""
    texts = ("-" if number is None else f"{number / unit:.{digits}f}" for number in (theirs, ours))
    return f"{' / '.join(texts)} {name}"


def faults(case: Case) -> list[str]:
    """Who failed, and whose results broke the promise."""
    found = [f"failed: {case['failure']}"] if case.get("failure") else []
    for name, of_name in case["contenders"].items():
        if "failure" in of_name:
            found.append(f"{name}: {of_name['failure']}")
        elif not of_name.get("kept", True):
            found.append(f"{name}: error {of_name['error']:.2e}, {of_name['allowed']:.2e} allowed")
    return found
