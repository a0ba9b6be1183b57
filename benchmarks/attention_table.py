"""The findings of ``benchmarks.attention`` as tables, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.markdown import cell, table
from benchmarks.memory_bound import MEMORY_BOUND
from benchmarks.records import Record, by_machine
from benchmarks.variants import VARIANTS

Case: TypeAlias = Mapping[str, Any]

_LIBRARIES = ("FlexAttention", "cuDNN")
_OF_ATTENTION = (
    "attention",
    "head size",
    "length",
    "rooftile",
    *_LIBRARIES,
    *(f"speed against {library}" for library in _LIBRARIES),
    "steps",
    "time of a step",
    "peak memory",
    "faults",
)
_OF_MEMORY = ("bound by memory", "with", "time", "bandwidth", "of a copy's", "faults")


def attention_markdown(cases: Sequence[Case]) -> str:
    """Two tables: attention over whole sequences, and what memory bounds; those without rows are left out.

    Steps are those that the longest loop visits in all programs, of all there are; the time of a visited one is given
    against that of full attention of the same size.
    """
    ordered = sorted(cases, key=_place)
    attention = [c for c in ordered if "variant" in c]
    rows = [_attention_row(c, _full_step(c, attention)) for c in attention]
    others = [row for c in ordered if "variant" not in c for row in _memory_rows(c)]
    return "\n\n".join(table(columns, r) for columns, r in ((_OF_ATTENTION, rows), (_OF_MEMORY, others)) if r)


def attention_section(records: Sequence[Record]) -> str:
    """The README's section: the tables of each device and set of versions."""
    return by_machine(records, attention_markdown)


def faults(case: Case) -> list[str]:
    """What is wrong with our part in a case, not counting how fast it was."""
    if failure := case.get("failure"):
        return [failure]
    ours = case["contenders"].get("rooftile", {})
    found = [f"{alternative} {why}".strip() for alternative, why in ours.get("failures", {}).items()]
    found += [] if ours.get("kept", True) else ["promise broken"]
    return found + [f"{kernel['name']}: {fault}" for kernel in case.get("compiled", ()) for fault in kernel["unmet"]]


def _place(case: Case) -> tuple[int, int]:
    """In the order of the tables of cases, a longer sequence after a shorter one."""
    order = [*VARIANTS, *MEMORY_BOUND]
    return order.index(case.get("variant", case["case"])), case.get("length", 0)


def _attention_row(case: Case, full_step: float | None) -> tuple[str, ...]:
    ours = _milliseconds(case, "rooftile")
    theirs = [_milliseconds(case, library) for library in _LIBRARIES]
    step = _step(case)
    return (
        case["title"],
        str(case["head_size"]),
        str(case["length"]),
        _timed(case, "rooftile"),
        *(_timed(case, library) for library in _LIBRARIES),
        *(f"{ms / ours:.2f}" if ms and ours else "" for ms in theirs),
        _steps(case),
        f"{step / full_step:.2f}" if step and full_step else "",
        _peak(case),
        "; ".join(cell(fault) for fault in faults(case)),
    )


def _timed(case: Case, name: str) -> str:
    ms = _milliseconds(case, name)
    return "" if ms is None else f"{ms:.3f} ms, {case['flops'] / ms * 1e-9:.0f} TFLOP/s"


def _milliseconds(case: Case, name: str) -> float | None:
    found: float | None = case.get("contenders", {}).get(name, {}).get("ms")
    return found


def _peak(case: Case) -> str:
    peak = case.get("contenders", {}).get("rooftile", {}).get("peak_bytes")
    return "" if peak is None else f"{peak / 2**20:.0f} MiB"


def _visited(case: Case) -> Mapping[str, Any] | None:
    """The longest loop of all kernels whose steps are known in number."""
    loops = (loop for kernel in case.get("kernels", ()) for loop in kernel["loops"])
    counted = [loop for loop in loops if isinstance(loop["visited"], int) and isinstance(loop["total"], int)]
    return max(counted, key=lambda loop: loop["total"], default=None)


def _steps(case: Case) -> str:
    loop, kernels = _visited(case), len(case.get("kernels", ()))
    steps = [] if loop is None else [f"{loop['visited']} of {loop['total']}"]
    return ", ".join(steps + ([f"{kernels} kernels"] if kernels > 1 else []))


def _step(case: Case) -> float | None:
    """The time in which the share of one visited step of all steps goes by."""
    loop, ms = _visited(case), _milliseconds(case, "rooftile")
    return ms * loop["total"] / loop["visited"] if loop and ms and loop["visited"] else None


def _full_step(case: Case, cases: Iterable[Case]) -> float | None:
    size = (case["head_size"], case["length"])
    full = (c for c in cases if c["variant"].startswith("full") and (c["head_size"], c["length"]) == size)
    return next((_step(c) for c in full), None)


def _memory_rows(case: Case) -> list[tuple[str, ...]]:
    if "contenders" not in case:
        return [(case["title"], "", "", "", "", cell("; ".join(faults(case))))]
    return [_memory_row(case, name, found) for name, found in case["contenders"].items()]


def _memory_row(case: Case, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    wrong = faults(case) if name == "rooftile" else list(found.get("failures", {}).values())
    told = "; ".join(cell(fault) for fault in wrong)
    if "ms" not in found:
        return (case["title"], name, "", "", "", told)
    bandwidth = case["bytes"] / found["ms"] * 1e3
    share = bandwidth / case["copy_bandwidth"]
    return (case["title"], name, f"{found['ms'] * 1e3:.1f} us", f"{bandwidth / 1e12:.2f} TB/s", f"{share:.0%}", told)
