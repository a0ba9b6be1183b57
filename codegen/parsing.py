"""Parsing Python text, one thread at a time.

CPython 3.11 counts the depth of a syntax tree for the whole process: ``ast.parse``, or the compilation of a tree, in
two threads at once may fail with a ``SystemError`` about its recursion depth.
"""

from __future__ import annotations

import ast
import threading

PARSING = threading.Lock()  # to be held by whoever makes or takes a syntax tree in another way


def parse(source: str, filename: str = "<kernel>") -> ast.Module:
    """The syntax tree of ``source``.

    Raises:
        SyntaxError: it is no Python.
    """
    with PARSING:
        return ast.parse(source, filename)
