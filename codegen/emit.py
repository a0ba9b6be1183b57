"""Tile IR -> Triton source: one readable file for each kernel."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rooftile.codegen.bounds import range_of_symbol
from rooftile.codegen.descriptors import Carriers
from rooftile.codegen.draft import Draft
from rooftile.codegen.epilogue import epilogue_of, pieces, without_repeated_loads
from rooftile.codegen.example import example
from rooftile.codegen.functions import functions_in
from rooftile.codegen.grid import Grid, launch_grid
from rooftile.codegen.header import carriers_note, joined_note, schedule_line
from rooftile.codegen.kernel import Blocks, Kernel, KernelParam
from rooftile.codegen.names import Names, readable
from rooftile.codegen.naming import name_values
from rooftile.codegen.ops import OpWriter
from rooftile.codegen.parsing import parse
from rooftile.codegen.positions import Positions
from rooftile.codegen.space import Space
from rooftile.codegen.specialize import specialized
from rooftile.codegen.statements import Branch, Loop, Statement, Store, Writer
from rooftile.codegen.tail import tail_of
from rooftile.codegen.values import Values
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Symbol
from rooftile.ir.polynomial import mul
from rooftile.ir.ranges import LARGEST_SIZE
from rooftile.ir.schedule import option
from rooftile.ir.visits import visits_of
from rooftile.target import Target


def emit(kernel: Graph, target: Target, body: Graph | None = None) -> Kernel:
    """The Triton kernel of a tile-level graph.

    ``body``, the graph-level region that it computes, is quoted in the file and lets the file check itself.

    Raises:
        InternalError: the graph holds something that has no Triton text; passes are to avoid that.
    """
    return draft(kernel, target, body).named(kernel.name, body)


def draft(kernel: Graph, target: Target, body: Graph | None = None) -> Draft:
    """The same, but for what stands first in the file."""
    return Emission(kernel, target).draft(body)


class Emission:
    """Names, statements and parameters of one kernel.

    One that shares a launch with others is given ``names`` and ``descriptors`` in common with them, its ``buffers`` by
    name, and the text of the ``number`` of its program.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        names: Names | None = None,
        buffers: Mapping[Value, str] = MappingProxyType({}),
        descriptors: dict[Blocks, KernelParam] | None = None,
        number: str = "tl.program_id(0)",
    ) -> None:
        self.graph = graph
        self.target = target
        self.space = Space.of(graph)
        self.names = names or Names()
        self.number = number
        self.sizes = {s: self.names.fresh(s.name) for s in graph.size_symbols()}
        self.name = self.names.fresh(readable(graph.name, "kernel"))
        self.buffers = dict(buffers) or {v: buffer_name(v, self.names) for v in graph.inputs}
        self.notes: list[str] = []  # on how the schedule's options were carried out
        # Descriptors that the host makes cannot be read by warps of their own.
        given, own = {} if descriptors is None else descriptors, option(graph.attrs, "specialize")
        self.carriers = Carriers(self.names, given, own)

    def draft(self, body: Graph | None) -> Draft:
        """The kernel as data, its text checked for syntax."""
        statements, attrs = self.statements(), self.graph.attrs
        grid, most = launch_grid(self.graph, self.space), self.target.sm_count if option(attrs, "persistent") else None
        if (cut := tail_of(self.graph, self.space)) is not None:
            grid = tuple(mul(count, cut.count) for count in grid)
        warps, stages = attrs["num_warps"], attrs["num_stages"]
        params, early = self.params(statements), self.target.launches_early
        kernel = Kernel(self.name, "", params, grid, warps, stages, most, early, tuple(self.notes))
        told = {visits_of(op) for op in self.graph.ops if op.name == "loop"}
        shown = example(kernel, self.buffers, self.graph.attrs["outputs"], body, self.sizes, told)
        context = file_context(statements, kernel) | shown
        return Draft.of(kernel, [schedule_line(self.graph, self.space)], self.target, body, context)

    def statements(self) -> list[Statement]:
        """The kernel's body."""
        writer = Writer(self.names)
        sizes = {s.name: n for s, n in self.sizes.items()}
        positions = Positions(self.space, writer, self.names, sizes)
        values = Values(positions, writer, name_values(self.graph, self.buffers, self.names))
        carriers = self.carriers if option(self.graph.attrs, "descriptors") else None
        counted = counting_ops(self.graph)
        OpWriter(values, self.buffers, None, persistent=False).block(counted)
        counts = {str(op.attrs["axis"]): values.tiles[op.inputs[0]].text for op in counted if op.name == "count"}
        known, cut = dict(values.tiles), tail_of(self.graph, self.space)
        pieces = 1 if cut is None else cut.count
        grid = Grid(self.graph, positions, writer, self.target.sm_count, self.number, counts, pieces)
        with grid.tiles():
            self.ops(values, carriers, len(counted))
        if cut is not None and grid.has_rest:
            with grid.rest() as number:
                piece = Values(positions.piece(cut.axis.name, number, pieces), writer, values.names)
                piece.tiles |= known
                self.ops(piece, carriers, len(counted), pieces)
        if self.carriers.reasons:
            reasons = {name.removesuffix("_ptr"): reason for name, reason in self.carriers.reasons.items()}
            self.notes.append(carriers_note(reasons))
        return self.specialized(writer.body) if option(self.graph.attrs, "specialize") else writer.body

    def ops(self, values: Values, carriers: Carriers | None, first: int, smaller: int = 1) -> None:
        """The kernel's ops from the ``first`` on, those of an epilogue in pieces once for each piece; of tiles that are
        ``smaller`` by this factor, there are as many fewer."""
        count = max(1, option(self.graph.attrs, "epilogue") // smaller)
        epilogue = epilogue_of(self.graph, values.space, count)
        before = self.graph.ops[first:] if epilogue is None else self.graph.ops[first : -len(epilogue.ops)]
        persistent = option(self.graph.attrs, "persistent")
        joins = bool(option(self.graph.attrs, "joined"))
        writer = OpWriter(values, self.buffers, carriers, persistent, joins)
        writer.block(before)
        if joins and smaller == 1:
            self.notes.append(joined_note(writer.joined))
        if epilogue is not None:
            start = values.writer.mark()
            for piece in pieces(epilogue, values):
                OpWriter(piece, self.buffers, carriers, persistent).block(epilogue.ops)
            values.writer.keep(start, without_repeated_loads)

    def specialized(self, body: list[Statement]) -> list[Statement]:
        """``body`` with warps of its own for loads, where that can be."""
        found = specialized(body, self.graph.attrs)
        self.notes.append("Warps of their own load." if isinstance(found, list) else f"No warps of their own: {found}.")
        return found if isinstance(found, list) else body

    def params(self, statements: list[Statement]) -> tuple[KernelParam, ...]:
        """The buffers, then the run-time sizes that the text mentions, then the descriptors."""
        used = names_used(statements)
        buffers = [KernelParam(name, "buffer", value.dtype.name) for value, name in self.buffers.items()]
        sizes = [
            KernelParam(name, "size", _size_type(s), s.divisor % 16 == 0, symbol=None if s.name == name else s.name)
            for s, name in self.sizes.items()
            if name in used
        ]
        return (*buffers, *sizes, *self.carriers.params.values())


def counting_ops(kernel: Graph) -> tuple[Op, ...]:
    """The ops that count the tiles of the grid, the same for all of a program's; the others stand behind them."""
    last = max((n for n, op in enumerate(kernel.ops) if op.name == "count"), default=-1)
    return kernel.ops[: last + 1]


def buffer_name(value: Value, names: Names) -> str:
    """The name of a buffer's parameter."""
    return names.fresh(readable(value.name, "buffer"), "_ptr")


def file_context(statements: list[Statement], kernel: Kernel, members: Sequence[Any] = ()) -> dict[str, Any]:
    """What the templates print beside an example: ``members`` are functions that ``statements`` call."""
    text = "\n".join([text_of(statements), *(text_of(member.body) for member in members)])
    functions = functions_in(text)
    return {
        "functions": functions,
        "libdevice": any("libdevice." in part for part in (text, *functions)),
        "own_descriptors": "tl.make_tensor_descriptor(" in text,
        "members": members,
        "name": kernel.name,
        "params": [p.name for p in kernel.params],
        "body": statements,
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "waits": kernel.waits,
    }


def names_used(statements: list[Statement]) -> set[str]:
    """The names that stand in the expressions of ``statements``."""
    return {node.id for node in ast.walk(parse(text_of(statements))) if isinstance(node, ast.Name)}


def _size_type(symbol: Symbol) -> str:
    return "i64" if range_of_symbol(symbol).high > LARGEST_SIZE else "i32"


def text_of(statements: list[Statement]) -> str:
    """All expressions of ``statements``, one a line."""
    lines: list[str] = []
    for statement in statements:
        if isinstance(statement, Loop):
            lines += [statement.start, statement.stop, text_of(statement.body)]
        elif isinstance(statement, Branch):
            lines += [statement.test, text_of(statement.body)]
        elif isinstance(statement, Store):
            lines += [statement.pointer, statement.value, statement.mask]
        else:
            lines.append(statement.text)
    return "\n".join(lines)
