"""How subcommands print: tables and text through rich, lines, and data as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from rooftile.errors import UserError


def show(shown: Any) -> None:
    """Through rich, as wide as the terminal; wide enough for the tables where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    with _printing():
        console.print(shown)


def show_json(data: Any) -> None:
    """Plain data as indented JSON."""
    say(json.dumps(data, indent=2))


def say(text: str, *, ended: bool = False) -> None:
    """Text as it is; ``ended``: its last line has its end."""
    with _printing():
        typer.echo(text, nl=not ended)


@contextmanager
def _printing() -> Iterator[None]:
    """An output that takes no more (a full disk) is an error of ours; who reads no more of a pipe wants no message."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"standard output cannot be written: {error.strerror}") from error
