"""The ``rooftile`` command: a module for each subcommand, and ``commands``, which lists them."""

from rooftile.cli.commands import app, main

__all__ = ["app", "main"]
