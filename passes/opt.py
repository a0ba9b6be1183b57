"""Passes by name, on IR text: what ``rooftile opt`` does."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from rooftile.errors import OptionError, nearest
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.passes.base import Pass, PassContext
from rooftile.passes.manager import Manager
from rooftile.passes.pipeline import PIPELINE, pipeline
from rooftile.target import Target

PASSES: dict[str, Pass] = {each.name: each for each in PIPELINE}


def run_named(text: str, specs: Sequence[str], target: Target, source: str = "") -> str:
    """The text of the graph in ``text`` after the passes ``specs``, in that order, each verified.

    Args:
        text: IR text; ``source`` is the file it is from, for messages.
        specs: names of passes, with options where wanted: ``"canonicalize"``, ``"lower{precision='tf32'}"``.
        target: the device that is compiled for.

    Raises:
        ParseError: the text is no graph.
        OptionError: there is no such pass, or it has no such option.
        InternalError: a pass failed.
    """
    passes = [pass_named(spec) for spec in specs]
    stages = Manager(verify=True).run(parse_graph(text, source), passes, PassContext(target))
    return print_graph(stages[-1].graph)


def pass_named(spec: str) -> Pass:
    """The pass that ``name`` or ``name{option=value, ...}`` stands for; values are Python literals.

    Raises:
        OptionError: unknown pass or option (with the nearest one), or a value that cannot be read.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\{(.*)\})?\s*", spec)
    name, options = match.groups() if match else (spec, None)
    passes = PASSES | {each.name: each for each in pipeline()}
    if name not in passes:
        raise OptionError(f"unknown pass {name!r}", fix=nearest(name, passes))
    return _with_options(passes[name], options) if options else passes[name]


def _with_options(each: Pass, options: str) -> Pass:
    known = [field.name for field in fields(each)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(call, ast.Call)
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise OptionError(f"options {options!r} of pass {each.name!r} cannot be read", fix="name=value, ...") from None
    for option in values:
        if option not in known:
            raise OptionError(f"pass {each.name!r} has no option {option!r}", fix=nearest(option, known))
    return replace(each, **values)  # type: ignore[type-var]
