"""``rooftile diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.arguments import AsJson
from rooftile.cli.printing import show, show_json


def diff(
    a: Annotated[Path, typer.Argument(help="A folder that `rooftile dump` wrote.")],
    b: Annotated[Path, typer.Argument(help="Another: of another version, of other options, for another device.")],
    as_json: AsJson = False,
) -> None:
    """Say what differs between two dumps: graphs after each pass, decisions, schedules, bytes, times, kernels.

    The exit code is 1 if something that is compiled does.
    """
    from rooftile.comparing.dumps import diff_dumps

    found = diff_dumps(a, b)
    if as_json:
        show_json(found.to_dict())
    else:
        show(found)
    if not found.same:
        raise typer.Exit(1)
