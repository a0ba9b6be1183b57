"""``rooftile dump``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, Model, TargetName, given
from rooftile.cli.models import compiled_model
from rooftile.config import CompileOptions


def dump(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("rooftile-dump"),
    inputs: Inputs = None,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Write the IR after every pass, the kernels, the plan and a script that reproduces them."""
    options = CompileOptions.from_user(None, dynamic, given(target=target, dump=out))
    compilations, _ = compiled_model(model, inputs, options, meta=meta)
    folders = [c.dump for c in compilations if c.dump is not None]
    if as_json:
        typer.echo(json.dumps([str(folder) for folder in folders]))
        return
    for folder in folders:
        typer.echo(f"{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
