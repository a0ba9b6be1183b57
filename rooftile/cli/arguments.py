"""The arguments and options that several subcommands take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Model = Annotated[str, typer.Argument(help="file.py:object or package.module:object; a module, or what makes one.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--inputs", "-i", help="A type such as 'bf16[1, 16, 64]', once for each input; or a function."),
]
TargetName = Annotated[str | None, typer.Option("--target", "-t", help="Compile for this device, present or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Meta = Annotated[bool, typer.Option("--meta", help="Shapes only: weights are not allocated and nothing runs.")]
Dynamic = Annotated[bool | None, typer.Option("--dynamic/--static", help="Sizes known only at run time, or not.")]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
