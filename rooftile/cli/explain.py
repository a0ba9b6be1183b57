"""``rooftile explain``."""

from __future__ import annotations

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, Model, TargetName, given
from rooftile.cli.models import compiled_model
from rooftile.cli.printing import show, show_json
from rooftile.config import CompileOptions


def explain(
    model: Model,
    inputs: Inputs = None,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Show the kernels of a model, what was fused and why, bytes and the roofline."""
    from rooftile.report.collect import report_of

    options = CompileOptions.from_user(None, dynamic, given(target=target))
    compilations, graphs = compiled_model(model, inputs, options, meta=meta)
    report = report_of(compilations, uncompiled=graphs - len(compilations))
    if as_json:
        show_json(report.to_dict())
    else:
        show(report)
