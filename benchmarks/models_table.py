"""The tables of docs/models.md, from ``benchmarks/results/models``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.records import Record, machine
from rooftile.externs import why

_CASES = ("forward", "padded", "dynamic", "decode")


def coverage_markdown(records: Sequence[Record]) -> str:
    """One row for each architecture: what each case came to, kernels, graph breaks, seconds."""
    columns = ("architecture", *_CASES, "graphs", "graph breaks", "kernels", "ATen calls", "compile time")
    return table(columns, [_coverage_row(r) for r in records])


def _coverage_row(record: Record) -> tuple[str, ...]:
    (case,) = record["cases"]
    runs: Mapping[str, Any] = case["runs"]
    whole = [r for r in runs.values() if "failure" not in r]
    breaks = {(b["reason"], b["source"]) for r in whole for b in r["breaks"]}
    forward = runs.get("forward", {})
    return (
        case["case"],
        *(_verdict(runs.get(name)) for name in _CASES),
        ", ".join(f"{name} {r['graphs']}" for name, r in runs.items() if "graphs" in r),
        "; ".join(sorted(f"{reason} ({source})" for reason, source in breaks)) or "none",
        str(sum(forward["kernels"])) if "kernels" in forward else "",
        str(sum(e["count"] for e in forward["externs"])) if "externs" in forward else "",
        f"{forward['compile']:.1f} s" if "compile" in forward else "",
    )


def _verdict(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return ""
    if "failure" in run:
        return f"failed: {run['failure']}"
    if "error" not in run:
        return "eager's tokens" if run["kept"] else "other tokens than eager"
    return f"{run['error']:.1e} / {run['allowed']:.1e}" + ("" if run["kept"] else ": promise broken")


def extern_markdown(records: Sequence[Record]) -> str:
    """The ATen calls that stay, by what they call: in which architectures and cases, from where, and why."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for record in records:
        (case,) = record["cases"]
        for run in case["runs"].values():
            for e in run.get("externs", ()):
                row = found.setdefault(e["target"], {"in": {}, "from": {}})
                row["in"][case["case"]] = None
                row["from"][e["source"]] = None
    rows = [
        (f"`{target}`", ", ".join(r["in"]), ", ".join(r["from"]), why(target)) for target, r in sorted(found.items())
    ]
    return table(("ATen call", "in", "from", "why"), rows)


def speed_markdown(records: Sequence[Record]) -> str:
    """One row for each architecture measured on a GPU."""
    names = list(dict.fromkeys(n for r in records for case in r["cases"] for n in case.get("contenders", ())))
    columns = ("two layers of", *names, "error / allowed", "peak memory")
    return table(columns, [_speed_row(case, names) for r in records for case in r["cases"]])


def speed_section(records: Sequence[Record]) -> str:
    """The table with the device and the versions that it was measured with; one line where nothing was measured."""
    if not records:
        return "Nothing has been measured yet: `python -m benchmarks.models --device cuda`."
    heads = dict.fromkeys(map(machine, records))
    return "\n\n".join((f"{'; '.join(heads)}:", speed_markdown(records)))


def _speed_row(case: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    found: Mapping[str, Any] = case.get("contenders", {})
    times = [_time(found.get(name, {"failure": case.get("failure", "")})) for name in names]
    ours = found.get("rooftile", {})
    error = f"{ours['error']:.1e} / {ours['allowed']:.1e}" if "error" in ours else ""
    peak = ", ".join(f"{found[n]['peak_bytes'] / 2**20:.0f}" for n in names if found.get(n, {}).get("peak_bytes"))
    return (f"{case['case']} ({case['title']})", *times, error, f"{peak} MiB" if peak else "")


def _time(found: Mapping[str, Any]) -> str:
    return f"{found['ms']:.3f} ms" if "ms" in found else f"failed: {found.get('failure', 'not measured')}"
