"""``rooftile demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rooftile.cli.printing import show


def demo(dump: Annotated[Path | None, typer.Option(help="Where to leave IR and kernels.")] = None) -> None:
    """Compile a Llama-style block, check it against float64, and explain what was done."""
    from rooftile.demo import demonstrate
    from rooftile.demo_text import demo_text

    show(demo_text(demonstrate(dump)))
