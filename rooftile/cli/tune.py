"""``rooftile tune``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, Model, TargetName, given
from rooftile.cli.models import compiled_model, found_model
from rooftile.cli.printing import show, show_json
from rooftile.config import CompileOptions
from rooftile.errors import OptionError


def tune(
    model: Model,
    inputs: Inputs = None,
    lock: Annotated[Path, typer.Option("--lock", "-l", help="The lock file.")] = Path("rooftile.lock"),
    effort: Annotated[str, typer.Option(help="quick or full: how many schedules of a kernel are timed.")] = "full",
    seconds: Annotated[float | None, typer.Option(help="The longest that it may take.")] = None,
    library: Annotated[bool | None, typer.Option(help="Whether a library's products and attention are tried.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Time nothing; say which entries fit this model.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Time the schedules of a model's kernels, and keep the best in a lock file.

    With --check the exit code is 1 if a kernel has no entry that fits, made with these versions, for the device.
    """
    from rooftile import tuning
    from rooftile.users_code import users_code

    if check:
        _check(model, inputs, lock, CompileOptions.from_user(None, dynamic, given(target=target)), as_json, meta)
        return
    if target or meta:
        raise OptionError("kernels are timed on the device that is here", fix="--target and --meta go with --check")
    found = found_model(model, inputs)
    with users_code(model):
        report = tuning.tune(
            found.model,
            *found.inputs,
            lock=lock,
            effort=effort,
            seconds=seconds,
            dynamic=dynamic,
            library=library,
            progress=not as_json,
        )
    if as_json:
        show_json(report.to_dict())
    else:
        show(report)


def _check(name: str, inputs: list[str] | None, lock: Path, options: CompileOptions, as_json: bool, meta: bool) -> None:
    from rooftile.report.text import Table, rich_table
    from rooftile.tuning import check_lock

    compilations, _ = compiled_model(name, inputs, options, meta=meta)
    rows = check_lock(compilations, lock)
    if as_json:
        show_json([asdict(row) for row in rows])
    else:
        cells = tuple((row.name, row.status, row.text) for row in rows)
        show(rich_table(Table(f"Kernels in {lock}", ("kernel", "status", "meaning"), cells)))
    if any(row.status != "locked" for row in rows):
        raise typer.Exit(1)
