"""A kernel's body as plain data, which the templates print, and the writer that collects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rooftile.codegen.names import Names


@dataclass(frozen=True)
class Assign:
    """``target = text  # comment``."""

    target: str
    text: str
    comment: str = ""
    kind: Literal["assign"] = "assign"


@dataclass(frozen=True)
class Store:
    """``tl.store(pointer, value, mask=mask)``; no mask where the text is empty."""

    pointer: str
    value: str
    mask: str
    kind: Literal["store"] = "store"


@dataclass(frozen=True)
class Call:
    """A statement that is just ``text``, called for what it does."""

    text: str
    kind: Literal["call"] = "call"


@dataclass(frozen=True)
class Loop:
    """``for variable in range(start, stop, step)`` over ``body``; ``options`` are those of ``tl.range``."""

    variable: str
    start: str
    stop: str
    step: int
    comment: str
    options: tuple[str, ...] = ()
    body: list[Statement] = field(default_factory=list)
    kind: Literal["loop"] = "loop"

    @property
    def steps(self) -> str:
        """What the variable runs over, as text."""
        function = "tl.range" if self.options else "range"
        return f"{function}({', '.join([self.start, self.stop, str(self.step), *self.options])})"


@dataclass(frozen=True)
class Branch:
    """``if test:`` and what is done where it holds."""

    test: str
    body: list[Statement]
    kind: Literal["branch"] = "branch"


Statement: TypeAlias = Assign | Store | Call | Loop | Branch


class Writer:
    """Collects statements in nested blocks: depth 0 is the kernel's body, each open loop adds one.

    A statement may be put into an outer block, where it stands before the loop that is open now: that is how invariant
    index arithmetic leaves loops.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self._blocks: list[list[Statement]] = [[]]
        self._known: list[dict[str, str]] = [{}]

    @property
    def depth(self) -> int:
        return len(self._blocks) - 1

    @property
    def body(self) -> list[Statement]:
        """The statements of the whole kernel."""
        return self._blocks[0]

    def add(self, statement: Statement) -> None:
        """Append to the innermost block."""
        self._blocks[-1].append(statement)

    def mark(self) -> int:
        """How many statements the innermost block has so far."""
        return len(self._blocks[-1])

    def keep(self, start: int, chosen: Callable[[Sequence[Statement]], Sequence[Statement]]) -> None:
        """Of the innermost block's statements from ``start`` on, keep those that are ``chosen``."""
        self._blocks[-1][start:] = chosen(self._blocks[-1][start:])

    def shared(self, wanted: str, text: str, depth: int, *, fixed: bool = False) -> str:
        """A variable that holds ``text``, defined in the block at ``depth`` unless one is visible there already.

        ``fixed`` takes the name as it is: the caller has reserved it, and it always holds this text.
        """
        key = wanted if fixed else text
        for known in self._known[: depth + 1]:
            if key in known:
                return known[key]
        name = wanted if fixed else self.names.fresh(wanted)
        self._blocks[depth].append(Assign(name, text))
        self._known[depth][key] = name
        return name

    @contextmanager
    def loop(
        self, variable: str, start: str, stop: str, step: int, comment: str, options: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """The statements added inside the ``with`` block are the body of a loop."""
        loop = Loop(variable, start, stop, step, comment, options)
        self._blocks.append(loop.body)
        self._known.append({})
        try:
            yield
        finally:
            self._blocks.pop()
            self._known.pop()
            self.add(loop)
