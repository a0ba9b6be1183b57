"""What can go wrong, as one tree of exceptions.

Every message says what happened, where in the user's model (text such as ``model.py:12, in self.attn``, given by the
caller), and what to do about it. This module imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

_E = TypeVar("_E", bound="RooftileError")


class RooftileError(Exception):
    """The root of all our errors: what happened, ``where`` in the user's code (or ""), and the ``fix`` (or "")."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def details(self) -> list[tuple[str, str]]:
        """The labelled lines below the first one; empty texts are not shown."""
        return [("at", self.where), ("fix", self.fix)]

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {label}: {text}" for label, text in self.details() if text)])

    # The default would call the constructor with `what` alone; errors cross processes when kernels compile in parallel.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(cls: type[_E], args: tuple[Any, ...]) -> _E:
    return cls.__new__(cls, *args)


class UserError(RooftileError):
    """Something outside Rooftile is to be changed: the environment, an option, an input, or the model."""


class ConfigError(UserError):
    """An environment variable holds a value that is not allowed."""


class OptionError(UserError):
    """An argument of ``compile`` and its kin has an unknown name or a value that is not allowed."""


class InputError(UserError):
    """A call brings a tensor of the wrong rank, size, dtype or device for the compiled plan."""


class OutOfRangeError(UserError, IndexError):
    """An index among a call's data lies outside the dimension that it reads; ``where`` is the line that reads there."""


class UnsupportedError(UserError):
    """The model or the IR text asks for something that Rooftile cannot do at all (an op without a row is no error)."""


class RequirementError(UserError):
    """A ``require=[...]`` option does not hold: ``where`` is the line that breaks it, ``fix`` what to change there."""

    def __init__(self, requirement: str, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(f"require={requirement!r} does not hold: {what}", where=where, fix=fix)
        self.requirement = requirement


class ParseError(UserError):
    """IR text that cannot be read, at ``line`` and ``column`` (both from 1) of ``source``, a file name or ""."""

    def __init__(self, what: str, *, line: int, column: int, source: str = "", text: str = "", fix: str = "") -> None:
        super().__init__(what, where=f"{source + ':' if source else ''}line {line}, column {column}", fix=fix)
        self.line = line
        self.column = column
        self.text = text

    def __str__(self) -> str:
        """The message with the line itself (``text``) and a caret under the column."""
        if not self.text:
            return super().__str__()
        return f"{super().__str__()}\n    {self.text}\n    {' ' * (self.column - 1)}^"


class InternalError(RooftileError):
    """A fault of ours: the pass it happened in, the passes before it, the op's text, and where a repro was written."""

    def __init__(
        self,
        what: str,
        *,
        pass_name: str = "",
        passes_before: Sequence[str] = (),
        op: str = "",
        repro: str = "",
        where: str = "",
    ) -> None:
        super().__init__(what, where=where)
        self.pass_name = pass_name
        self.passes_before = tuple(passes_before)
        self.op = op
        self.repro = repro

    def details(self) -> list[tuple[str, str]]:
        return [
            ("in pass", self.pass_name),
            ("after", " -> ".join(self.passes_before)),
            ("op", self.op),
            ("at", self.where),
            ("repro", self.repro),
            ("this is a fault of Rooftile", "please report it with the repro" if self.repro else "please report it"),
        ]


@contextmanager
def writing(what: object, fix: str = "") -> Iterator[None]:
    """Inside the ``with`` block ``what`` is written.

    Raises:
        OptionError: it cannot be; with what the system says of that.
    """
    try:
        yield
    except OSError as error:
        raise OptionError(f"{what} cannot be written: {error.strerror}", fix=fix) from error


def nearest(value: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest allowed one, where one is close, and all of them."""
    names = {name.lower(): name for name in allowed}
    close = get_close_matches(value.lower(), names, n=1)
    hint = f"did you mean {names[close[0]]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names.values())}"
