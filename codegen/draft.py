"""A kernel's file but for what stands first in it, which is all that the files of identical layers differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2

from rooftile.codegen.header import header
from rooftile.codegen.kernel import Kernel
from rooftile.codegen.parsing import parse
from rooftile.errors import InternalError
from rooftile.ir.core import Graph
from rooftile.ir.printer import print_graph
from rooftile.target import Target


@dataclass(frozen=True)
class Draft:
    """``kernel``, whose text is yet without its beginning; ``schedules`` are the lines about them in that."""

    kernel: Kernel
    schedules: tuple[str, ...]
    target: Target

    @staticmethod
    def of(
        kernel: Kernel, schedules: Sequence[str], target: Target, body: Graph | None, context: Mapping[str, Any]
    ) -> Draft:
        """The rest of the file from what the templates print of a kernel, checked for syntax.

        Raises:
            InternalError: it does not parse.
        """
        quoted = body is not None
        source = _templates().get_template("kernel.py.jinja2").render(context, quoted=quoted)
        _check_syntax(kernel.name, source)
        return Draft(replace(kernel, source=source), tuple(schedules), target)

    def named(self, name: str, body: Graph | None) -> Kernel:
        """The kernel with its whole file, in which it is called ``name`` and computes ``body``."""
        head = header(name, self.target, self.schedules, body, self.kernel.notes)
        ir = "" if body is None else _escape(print_graph(body).rstrip("\n"))
        about = _templates().get_template("about.jinja2").render(header=_escape(head), ir=ir)
        _check_syntax(self.kernel.name, about)
        return replace(self.kernel, source=about + self.kernel.source)


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("rooftile.codegen")
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def _check_syntax(name: str, source: str) -> None:
    try:
        parse(source)
    except SyntaxError as error:
        raise InternalError(f"kernel {name} does not parse: {error}", op=str(error.text)) from error


def _escape(text: str) -> str:
    """``text`` fit to stand between triple quotes."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
