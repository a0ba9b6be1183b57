"""The findings of ``benchmarks.matmul`` as a table, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

from benchmarks.markdown import cell, table
from benchmarks.products import PRODUCTS
from benchmarks.records import Record, by_machine

Case: TypeAlias = Mapping[str, Any]

_OURS = {"rooftile": "untuned", "rooftile-tuned": "tuned", "rooftile-library": "tuned, library too"}
_COLUMNS = ("product", "cuBLAS", *_OURS.values(), *(f"{name}, of cuBLAS" for name in _OURS.values()), "faults")


def matmul_markdown(cases: Sequence[Case]) -> str:
    """A row for each product, times in microseconds and TFLOP/s; below each way to keep weights the geometric mean."""
    rows: list[tuple[str, ...]] = []
    ordered = [case for name in PRODUCTS for case in cases if case["case"] == name]
    for weight in ("kn", "nk"):
        group = [case for case in ordered if PRODUCTS[case["case"]].weight == weight]
        rows += [_row(case) for case in group]
        if len(group) > 1:
            means = [_mean([_share(case, name) for case in group]) for name in _OURS]
            rows.append(("geometric mean", "", *[""] * len(_OURS), *means, ""))
    return table(_COLUMNS, rows)


def matmul_section(records: Sequence[Record]) -> str:
    """The README's section: a table for each device and set of versions."""
    return by_machine(records, matmul_markdown)


def faults(case: Case) -> list[str]:
    """What is wrong with our part in a case, not counting how fast it was."""
    if failure := case.get("failure"):
        return [failure]
    found = []
    for name in _OURS:
        ours = case["contenders"].get(name, {})
        found += [f"{name}: {ours['failure']}"] if "failure" in ours else []
        found += [] if ours.get("kept", True) else [f"{name}: promise broken"]
        found += [f"{name}: {fault}" for kernel in ours.get("compiled", ()) for fault in kernel["unmet"]]
    return found


def _row(case: Case) -> tuple[str, ...]:
    shares = [_share(case, name) for name in _OURS]
    return (
        case["title"],
        _timed(case, "eager"),
        *(_timed(case, name) for name in _OURS),
        *("" if share is None else f"{share:.2f}" for share in shares),
        "; ".join(map(cell, faults(case))),
    )


def _timed(case: Case, name: str) -> str:
    us = case.get("contenders", {}).get(name, {}).get("us")
    return "" if us is None else f"{us:.1f} us, {case['flops'] / us * 1e-6:.0f} TFLOP/s"


def _share(case: Case, name: str) -> float | None:
    share: float | None = case.get("contenders", {}).get(name, {}).get("of_library")
    return share


def _mean(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{prod(known) ** (1 / len(known)):.2f}" if known and len(known) == len(shares) else ""
