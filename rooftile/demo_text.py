"""The demo's findings for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from rooftile.demo import Demonstration
from rooftile.report.text import as_rich, quantity


def demo_text(demo: Demonstration) -> Any:
    """A rich renderable: what was compiled, the report, the verdict, and where everything is."""
    return Group(Text(_opening(demo), style="bold"), Text(), as_rich(demo.report), Text(_closing(demo)))


def _opening(demo: Demonstration) -> str:
    s = demo.sizes
    return (
        f"A Llama-style block ({s.width} wide, {s.heads} heads in {s.groups} groups, SwiGLU {s.hidden}) "
        f"on a {s.batch} x {s.length} input, {str(s.dtype).removeprefix('torch.')}"
    )


def _closing(demo: Demonstration) -> str:
    totals = demo.report.totals
    verdict = "kept" if demo.accuracy.kept else "BROKEN"
    lines = [
        f"Bytes moved: {quantity(totals.bytes, 'B')}; the same graph op by op: {quantity(totals.eager_bytes, 'B')}",
        f"Error against float64: {demo.accuracy.ours:.2e}, eager's {demo.accuracy.eager:.2e}; "
        f"promise (at most {demo.accuracy.allowed:.2e}) {verdict}",
        f"Captured, compiled and run once in {demo.compile_seconds:.1f} s",
    ]
    if demo.ours_ms is not None and demo.eager_ms is not None:
        lines.append(f"A call takes {demo.ours_ms:.3f} ms; eager {demo.eager_ms:.3f} ms")
    lines.append(f"IR after every pass, kernels, plan and repro.py: {demo.dump}")
    lines.append(f"All of it for a browser: {demo.dump / 'index.html'}")
    return "\n".join(lines)
