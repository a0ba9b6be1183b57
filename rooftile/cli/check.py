"""``rooftile check``."""

from __future__ import annotations

from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, TargetName
from rooftile.cli.models import subjects
from rooftile.cli.printing import show, show_json

Subject = Annotated[str, typer.Argument(help="A model, file.py:object or package.module:object; or a dump's folder.")]
Without = Annotated[list[str] | None, typer.Option("--without", help="A rewrite to leave out, by its name.")]


def check(
    model: Subject,
    inputs: Inputs = None,
    target: TargetName = None,
    budget: Annotated[
        float | None, typer.Option(help="Turn a rewrite off that adds more error than this to the results.")
    ] = None,
    nan: Annotated[bool, typer.Option("--nan", help="Name the first op that makes a NaN or an infinity.")] = False,
    blame: Annotated[bool, typer.Option("--blame/--no-blame", help="Measure passes, rewrites and kernels.")] = True,
    without: Without = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
) -> None:
    """Compare a model's results with float64 and eager, and say which part of the compiler adds what error.

    The exit code is 1 if the promise is broken or a part is wrong.
    """
    from dataclasses import replace

    from rooftile.blame.check import Wanted, check_subjects

    found, uncompiled = subjects(model, inputs, dynamic)
    report = check_subjects(found, target, Wanted(blame, nan, budget, tuple(without or ())))
    report = replace(report, uncompiled=uncompiled)
    if as_json:
        show_json(report.to_dict())
    else:
        show(report)
    if not report.kept:
        raise typer.Exit(1)
