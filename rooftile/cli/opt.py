"""``rooftile opt``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.printing import say
from rooftile.errors import OptionError


def opt(
    file: Annotated[Path, typer.Argument(help="IR text; - for standard input.")],
    passes: Annotated[str, typer.Option("--passes", "-p", help="Names, with commas between: canonicalize,fuse.")],
    target: Annotated[str, typer.Option("--target", "-t", help="The device to compile for.")] = "h100",
) -> None:
    """Run passes on IR text and print the result."""
    from rooftile.ir.parser import text_in
    from rooftile.passes.opt import run_named
    from rooftile.target import target_named

    if str(file) != "-" and not file.is_file():
        raise OptionError(f"no file {str(file)!r}", fix="a file with IR text, or - for standard input")
    text = sys.stdin.read() if str(file) == "-" else text_in(file)
    say(run_named(text, split_passes(passes), target_named(target), file.name), ended=True)


def split_passes(text: str) -> list[str]:
    """Pass names at the commas, those inside braces left alone: ``a,b{x=1,y=2}`` is two."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
