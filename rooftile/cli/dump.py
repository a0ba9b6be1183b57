"""``rooftile dump``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, Model, TargetName, given
from rooftile.cli.models import compiled_model
from rooftile.cli.printing import say, show_json
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
    from rooftile.dump import dump_row

    options = CompileOptions.from_user(None, dynamic, given(target=target, dump=out))
    compilations, _ = compiled_model(model, inputs, options, meta=meta)
    rows = [dump_row(compilation) for compilation in compilations]
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    for row in rows:
        top = dict.fromkeys(file.partition("/")[0] for file in row.files)
        say(f"{row.folder}: {', '.join(top)}")
