"""What a pass is, and what it may look at besides the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from rooftile.config import CompileOptions
from rooftile.ir.core import Graph, Op
from rooftile.ir.structure import Structures
from rooftile.passes.ledger import Ledger
from rooftile.passes.switches import Switches
from rooftile.target import Target


@dataclass(frozen=True)
class Note:
    """Something a pass did to one value that is not exactly what was written, such as a rounding that is left out."""

    value: str
    text: str
    source: str


@dataclass
class PassContext:
    """What all passes of one compilation share; ``ledger``, ``derivations`` and ``notes`` only grow.

    ``switches`` say which rewrites are carried out; with None all are. ``structures`` say which regions are alike, down
    to what their dimensions are called.
    """

    target: Target
    ledger: Ledger = field(default_factory=Ledger)
    derivations: list[Any] = field(default_factory=list)
    options: CompileOptions | None = None
    notes: list[Note] = field(default_factory=list)
    switches: Switches | None = None
    structures: Structures = field(default_factory=lambda: Structures(named=True))


class working_on:
    """``with working_on(op)``: an exception raised inside is about ``op``, unless it says otherwise already."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and op_in_question(error) is None:
            setattr(error, _OP, self._op)


_OP = "rooftile_op"


def op_in_question(error: BaseException) -> Op | None:
    """The op that a pass was working on when ``error`` was raised; None where it did not say."""
    return getattr(error, _OP, None)


class Pass(Protocol):
    """A function from graphs to graphs, as a frozen dataclass whose fields are its options.

    ``name`` is also the name of its file and of its folder of tests. A pass changes neither the graph it gets nor
    anything reachable from it, and gives the same object back where nothing was to be done.
    """

    name: ClassVar[str]

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph after this pass."""
        ...
