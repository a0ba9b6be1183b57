"""``rooftile bisect``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, TargetName
from rooftile.cli.check import Subject
from rooftile.cli.models import subjects
from rooftile.cli.printing import say, show_json
from rooftile.config import Config
from rooftile.errors import OptionError

Predicate = Annotated[
    str | None,
    typer.Option(help="file.py:function of the lists of our, eager's and float64's results: are ours right?"),
]


def bisect(
    model: Subject,
    inputs: Inputs = None,
    target: TargetName = None,
    predicate: Predicate = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the repro.")] = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
) -> None:
    """Find the pass, rewrite or kernel that breaks the promise, or a predicate of yours, and write a repro.

    The exit code is 1 if something breaks it.
    """
    from rooftile.blame.bisect import bisect, keeps_promise
    from rooftile.blame.data import BisectReport
    from rooftile.blame.repro import refuse_others, write_repro
    from rooftile.named_model import named_object
    from rooftile.runtime.devices import default_target
    from rooftile.target import target_named
    from rooftile.users_code import users_code

    with _writing(out):
        if out is not None:
            refuse_others(out)
    found, _ = subjects(model, inputs, dynamic)
    judge: Any = keeps_promise if predicate is None else named_object(predicate)
    try:
        signature(judge).bind([], [], [])
    except TypeError as error:
        raise OptionError(f"{predicate}: {error}", fix="a function of three lists of results") from error
    wanted = target or Config.from_env().target
    with users_code(predicate or ""):
        culprit = bisect(found, target_named(wanted) if wanted else default_target(), judge)
    if culprit is None:
        show_json(asdict(BisectReport(None))) if as_json else say("nothing breaks it")
        return
    with _writing(out):
        script = write_repro(culprit, out)
    if as_json:
        show_json(asdict(BisectReport(culprit.row(str(script)))))
    else:
        say(f"{culprit}\n  repro: {script}")
    raise typer.Exit(1)


@contextmanager
def _writing(out: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = out or "the folder for temporary files"
        raise OptionError(f"{where} cannot be written: {error.strerror}", fix="name another folder: --out") from error
