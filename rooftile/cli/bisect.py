"""``rooftile bisect``."""

from __future__ import annotations

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
from rooftile.errors import OptionError, writing

_ANOTHER = "name another folder: --out"
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
    from rooftile.users_code import users_code

    if out is not None:
        with writing(out, _ANOTHER):
            refuse_others(out)
    found, _ = subjects(model, inputs, dynamic)
    judge: Any = keeps_promise if predicate is None else named_object(predicate)
    try:
        signature(judge).bind([], [], [])
    except TypeError as error:
        raise OptionError(f"{predicate}: {error}", fix="a function of three lists of results") from error
    with users_code(predicate or ""):
        culprit = bisect(found, default_target(target or Config.from_env().target), judge)
    if culprit is None:
        show_json(asdict(BisectReport(None))) if as_json else say("nothing breaks it")
        return
    with writing(out or "the folder for temporary files", _ANOTHER):
        script = write_repro(culprit, out)
    if as_json:
        show_json(asdict(BisectReport(culprit.row(str(script)))))
    else:
        say(f"{culprit}\n  repro: {script}")
    raise typer.Exit(1)
