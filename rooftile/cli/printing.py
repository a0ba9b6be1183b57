"""How subcommands print: tables and text through rich, data as JSON."""

from __future__ import annotations

import json
from typing import Any

import typer


def show(shown: Any) -> None:
    """Through rich, as wide as the terminal; wide enough for the tables where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(shown)


def show_json(data: Any) -> None:
    """Plain data as indented JSON."""
    typer.echo(json.dumps(data, indent=2))
