"""Warp specialisation: warps of their own load what the hot loop reads, the others compute.

Triton 3.6 does it for a loop that asks, if it can; where it can't, it silently doesn't or fails to compile. What is
asked for here was seen to be done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rooftile.codegen.statements import Assign, Loop, Statement
from rooftile.ir.schedule import option

WARPS = 4  # of the program before the loading ones are added; with others nothing happens
LEAST_STAGES = 2


def specialized(statements: Sequence[Statement], attrs: Mapping[str, Any]) -> list[Statement] | str:
    """A kernel's ``statements`` with its hot loop specialised, or why that can't be; ``attrs`` are the kernel's."""
    loops = list(_loops(statements))
    around = [loop for loop in loops if any(isinstance(s, Loop) for s in loop.body)]
    limits = (
        (attrs["num_warps"] == WARPS, f"it takes {WARPS} warps"),
        (attrs["num_stages"] >= LEAST_STAGES, f"it takes {LEAST_STAGES} stages"),
        (len(loops) - len(around) == 1, "it takes one loop"),
        (len(around) <= option(attrs, "persistent"), "it takes one loop"),
        (not option(attrs, "flatten"), "the loop is flattened"),
        (option(attrs, "epilogue") == 1, "the epilogue is in pieces"),
        (attrs["num_stages"] == LEAST_STAGES or _dots(statements) < 2, f"two products take {LEAST_STAGES} stages"),
        (not any("tl.load(" in text for text in _assigned(statements)), "not every load has a descriptor"),
    )
    return next((reason for holds, reason in limits if not holds), _asking(statements))


def _loops(statements: Sequence[Statement]) -> Iterator[Loop]:
    for statement in statements:
        if isinstance(statement, Loop):
            yield statement
            yield from _loops(statement.body)


def _assigned(statements: Sequence[Statement]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, Loop):
            yield from _assigned(statement.body)
        elif isinstance(statement, Assign):
            yield statement.text


def _dots(statements: Sequence[Statement]) -> int:
    """How many products the statements hold; where two follow one another, more stages gave NaN on an H100."""
    return sum(text.count("tl.dot(") for text in _assigned(statements))


def _asking(statements: Sequence[Statement]) -> list[Statement]:
    """``statements`` with the innermost loops asking for it."""
    return [_asks(s) if isinstance(s, Loop) else s for s in statements]


def _asks(loop: Loop) -> Loop:
    if any(isinstance(s, Loop) for s in loop.body):
        return replace(loop, body=_asking(loop.body))
    return replace(loop, options=(*loop.options, "warp_specialize=True"))
