"""Which lines are the user's, and what their code raises where the command line runs it: one message with the line,
without our stack above it."""

from __future__ import annotations

import logging
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary, extract_tb
from typing import Literal, TypeAlias

import torch
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

import rooftile
from rooftile.errors import RooftileError, UserError
from rooftile.ir.extern import CALLED_AT

_Whose: TypeAlias = Literal["ours", "torch", "user"]

_OURS = Path(rooftile.__path__[0])  # as frames name it: in a checkout, folders in it are links to those beside it
_TORCH = Path(torch.__path__[0]).resolve()
_PYTHON = Path(sysconfig.get_path("stdlib")).resolve()
_LOGGING_WHAT_IT_RAISES = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Inside the ``with`` block ``what`` runs: a module, a function or a model of the user's. Whatever is raised there
    and is not our fault becomes a UserError with the user's line, and torch does not log its stack."""
    before, _LOGGING_WHAT_IT_RAISES.disabled = _LOGGING_WHAT_IT_RAISES.disabled, True
    try:
        yield
    except RooftileError:
        raise
    except Exception as error:
        if isinstance(error, BackendCompilerFailed) or not _is_theirs(error):
            raise
        cause = _first_cause(error) if isinstance(error, TorchDynamoException) else error
        text = cause.msg if isinstance(cause, SyntaxError) else str(cause)
        raise UserError(f"{what} raised {type(cause).__name__}: {text}", where=line_of(error)) from error
    finally:
        _LOGGING_WHAT_IT_RAISES.disabled = before


def _is_theirs(error: Exception) -> bool:
    """Whether a file of theirs is no Python; an ATen call of the model raised it; or the innermost frame that is not
    torch's is theirs, or is ours and does nothing but call torch or Python with what the user gave: no frame is theirs
    where a call has too many arguments.
    """
    if (isinstance(error, SyntaxError) and error.filename) or _noted_lines(error):
        return True
    frames = [whose for frame in extract_tb(error.__traceback__) if (whose := _whose(frame)) is not None]
    inner = max(number for number, whose in enumerate(frames) if whose != "torch")
    return frames[inner] == "user" or (set(frames[:inner]) <= {"ours"} and inner < len(frames) - 1)


def _whose(frame: FrameSummary) -> _Whose | None:
    """None for a frame of Python's own library."""
    if Path(frame.filename).is_relative_to(_OURS):
        return "ours"
    path = Path(frame.filename).resolve()
    if path.is_relative_to(_TORCH):
        return "torch"
    is_pythons = path.is_relative_to(_PYTHON) and not path.is_relative_to(sysconfig.get_path("purelib"))
    return None if is_pythons or frame.filename.startswith("<frozen") else "user"


def line_of(error: Exception) -> str:
    """The innermost line of the user's that an error comes from; "" if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    if noted := _noted_lines(error):
        return noted[-1]
    return line_in(getattr(error, "real_stack", None) or extract_tb(error.__traceback__))


def line_in(stack: Iterable[FrameSummary]) -> str:
    """The innermost line of the user's, or of a library's model, in a stack; "" if there is none."""
    theirs = [frame for frame in stack if _whose(frame) == "user"]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""


def _noted_lines(error: Exception) -> list[str]:
    """Of what an ATen call raised that the model makes: the model's line."""
    notes = getattr(error, "__notes__", [])
    return [note.removeprefix(CALLED_AT) for note in notes if note.startswith(CALLED_AT)]


def _first_cause(error: BaseException) -> BaseException:
    """What was raised first, which Dynamo has wrapped in its own words."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
