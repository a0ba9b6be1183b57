"""What the page shows beside the report's own data: IR after every pass, kernel files, drawings, memory, masks and the
lines of the model."""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rooftile.compilation import Compilation
from rooftile.ir.printer import print_graph
from rooftile.ir.steps import AGAIN, loop_visits
from rooftile.report.data import Report
from rooftile.report.page.diagram import diagram_of
from rooftile.report.page.texts import Texts
from rooftile.report.why import why_stored
from rooftile.runtime.plan import Launch, Plan, Step

_MOST_ROWS = 128  # of a picture of visited tiles
_AROUND = 2  # lines of the model shown before and behind each that a kernel computes


def content_of(report: Report) -> tuple[dict[str, Any], dict[str, object]]:
    """Everything but the texts, and the texts: IR and kernels."""
    texts = Texts()
    programs = [
        {**_program(each, texts), "stored": why_stored(report, each) if each.plan is not None else {}}
        for each in report.compilations
    ]
    found = {"report": report.to_dict(), "programs": programs, "sources": source_lines(report)}
    return found, texts.to_dict()


def _program(compilation: Compilation, texts: Texts) -> dict[str, Any]:
    plan, packing = compilation.plan, compilation.packing
    graph = compilation.graph if plan is None else plan.graph  # without what is computed once, from weights alone
    stages = [
        {"name": s.name, "changed": s.changed, "text": texts.add((s.text or print_graph(s.graph)).splitlines())}
        for s in compilation.stages
    ]
    lowered = plan is not None
    return {
        "name": graph.name,
        "stages": stages,
        "diagram": _short(asdict(diagram_of(graph))) if lowered else None,
        "kernels": [_kernel(step, compilation, texts) for step in plan.steps] if plan is not None else [],
        "packed": [_kernel(step, compilation, texts) for step in packing.steps] if packing is not None else [],
        "memory": _memory(plan, compilation.sizes) if plan is not None else None,
    }


def _kernel(step: Step, compilation: Compilation, texts: Texts) -> dict[str, Any]:
    if not isinstance(step, Launch):
        return {"source": None, "masks": [], "unpictured": ""}
    kernels = step.op.regions[1:]
    told = compilation.visits.get(-1 if step.visits is None else step.visits)
    known = all(s.name in compilation.sizes for kernel in kernels for s in kernel.size_symbols())
    visits = [v for k in kernels for v in loop_visits(k, compilation.sizes, _MOST_ROWS, told)] if known else []
    loops = [op for kernel in kernels for op in kernel.ops if op.name == "loop" and op.attrs["phase"] != AGAIN]
    chosen = any(loop.attrs["ranges"] for loop in loops)
    return {
        "source": texts.add(step.kernel.source.splitlines()),
        "masks": [asdict(v) for v in visits],
        "unpictured": _why_no_picture(step, known) if chosen and not visits else "",
    }


def _why_no_picture(step: Launch, known: bool) -> str:
    """Why it is not known which steps a kernel visits."""
    if not known:
        return "the sizes of a call decide, and it has not been called"
    if step.visits is None:
        return "it looks at data in its sweep, step by step"
    visits = step.op.inputs[-1].name
    return f"its mask is data: %{visits} tells the steps, and was not computed, since the inputs have shapes alone"


def _memory(plan: Plan, sizes: Mapping[str, int]) -> dict[str, Any] | None:
    """The buffers with their places, the results behind the arena, and their lives; None where a size isn't known."""
    if any(s.name not in sizes for s in plan.symbols):
        return None
    layout = plan.layout(sizes)
    rows = [
        {
            "name": b.name,
            "home": b.home,
            "offset": layout.offsets.get(b.number),
            "bytes": b.bytes(sizes),
            "first": b.first,
            "last": b.last,
        }
        for b in plan.buffers
        if b.home != "argument"
    ]
    return {"arena": layout.arena_bytes, "peak": layout.peak_bytes, "steps": len(plan.steps), "buffers": rows}


def source_lines(report: Report) -> dict[str, dict[str, str]]:
    """The text of every line that the report names, and of those around it, by file and number; files that aren't here
    are left out."""
    wanted: dict[str, set[int]] = {}
    places = [s for k in (*report.kernels, *report.packed) for s in k.sources] + [
        s for e in report.ledger for s in e.sources
    ]
    for place in dict.fromkeys(places):
        file, _, line = place.rpartition(":")
        around = range(max(1, int(line) - _AROUND), int(line) + _AROUND + 1)
        wanted.setdefault(file, set()).update(around)
    found = {
        file: {str(n): text.rstrip("\n") for n in sorted(numbers) if (text := linecache.getline(file, n))}
        for file, numbers in wanted.items()
    }
    return {file: lines for file, lines in found.items() if lines}


def _short(data: Any) -> Any:
    """Coordinates to tenths of a pixel."""
    if isinstance(data, float):
        return round(data, 1)
    if isinstance(data, dict):
        return {key: _short(value) for key, value in data.items()}
    return [_short(item) for item in data] if isinstance(data, (list, tuple)) else data
