"""``rooftile cache``."""

from __future__ import annotations

from typing import Annotated

import typer

from rooftile.config import Config


def cache(clear: Annotated[bool, typer.Option("--clear", help="Delete all compiled kernels.")] = False) -> None:
    """Show, or empty, the folder of compiled kernels."""
    from rooftile.runtime.cache import KernelCache

    kernels = KernelCache(Config.from_env().cache_dir)
    if clear:
        typer.echo(f"{kernels.path}: {kernels.clear()} kernels deleted")
        return
    sizes = [entry.stat().st_size for entry in kernels.entries()]
    typer.echo(f"{kernels.path}: {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB")
