"""All subcommands in the order of ``rooftile --help``, and what an error looks like."""

from __future__ import annotations

import sys

import typer

from rooftile.cli.bisect import bisect
from rooftile.cli.cache import cache
from rooftile.cli.check import check
from rooftile.cli.demo import demo
from rooftile.cli.diff import diff
from rooftile.cli.dump import dump
from rooftile.cli.explain import explain
from rooftile.cli.info import info
from rooftile.cli.opt import opt
from rooftile.cli.tune import tune
from rooftile.config import Config
from rooftile.errors import ConfigError, RooftileError

# Modules that import torch are imported inside the commands that need them: `rooftile --help` is to be quick.
COMMANDS = (demo, explain, dump, check, bisect, diff, opt, info, tune)

app = typer.Typer(
    help="A graph compiler for transformer blocks: a few readable Triton kernels near the roofline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(cache, name="cache")


def main() -> None:
    """Run the command.

    Errors of ours are one message and exit code 2; with ROOFTILE_DEBUG they show where they come from.
    """
    try:
        app()
    except RooftileError as error:
        if _debugging():
            raise
        typer.echo(f"rooftile: {error}", err=True)
        sys.exit(2)


def _debugging() -> bool:
    try:
        return Config.from_env().debug > 0
    except ConfigError:  # which is the error, or comes next
        return False
