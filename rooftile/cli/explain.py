"""``rooftile explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, TargetName, given
from rooftile.cli.models import compiled_model
from rooftile.cli.printing import show, show_json
from rooftile.config import CompileOptions

Subject = Annotated[
    str, typer.Argument(help="file.py:object or package.module:object; or the folder of a dump, or a file of IR.")
]
Why = Annotated[str | None, typer.Option("--why", help="All about one value: where it is made, why it is stored.")]
Line = Annotated[str | None, typer.Option("--line", help="All about one line of the model, FILE:LINE.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as a page for a browser.")]
Derivations = Annotated[bool, typer.Option("--derivations", help="Also how sweeps were joined, rule by rule.")]
Resources = Annotated[
    bool, typer.Option("--resources", help="Compile the kernels, GPU or not: registers, spills, shared memory.")
]


def explain(
    model: Subject,
    inputs: Inputs = None,
    target: TargetName = None,
    why: Why = None,
    line: Line = None,
    html: Html = None,
    derivations: Derivations = False,
    resources: Resources = False,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Show the kernels of a model, what was fused and why, bytes and the roofline."""
    from rooftile.report.breaks import breaks_seen
    from rooftile.report.collect import report_of
    from rooftile.report.resources import compile_resources
    from rooftile.report.terminal import about_lines, about_values, explanation
    from rooftile.report.why import about_line
    from rooftile.report.why import why as about

    options = CompileOptions.from_user(None, dynamic, given(target=target))
    with breaks_seen() as breaks:
        compilations, graphs = compiled_model(model, inputs, options, meta=meta)
    if resources:
        compile_resources(compilations)
    report = report_of(compilations, uncompiled=graphs - len(compilations), breaks=breaks)
    if html is not None:
        typer.echo(f"{report.save(html)}: open it in a browser", err=True)
    if why is not None:
        rows = about(report, why)
        show_json([row.to_dict() for row in rows]) if as_json else show(about_values(rows))
        return
    report = about_line(report, line) if line is not None else report
    if as_json:
        show_json(report.to_dict())
    elif line is not None:
        show(about_lines(report, line))
    elif html is None:
        show(explanation(report, derivations))
