"""Tile IR -> Triton source: one readable file for each kernel."""

from __future__ import annotations

import ast
from dataclasses import asdict
from typing import Any

import jinja2

from rooftile.codegen.bounds import LARGEST_SIZE, range_of_symbol
from rooftile.codegen.epilogue import epilogue_of, pieces
from rooftile.codegen.example import example_buffer, example_size, largest_safe_index
from rooftile.codegen.functions import functions_in
from rooftile.codegen.grid import Grid, launch_grid
from rooftile.codegen.kernel import Kernel, KernelParam
from rooftile.codegen.names import Names, readable
from rooftile.codegen.naming import name_values
from rooftile.codegen.ops import OpWriter
from rooftile.codegen.positions import Positions
from rooftile.codegen.space import Space
from rooftile.codegen.statements import Loop, Statement, Store, Writer
from rooftile.codegen.values import Values
from rooftile.errors import InternalError
from rooftile.ir.core import Graph
from rooftile.ir.expr import Symbol
from rooftile.ir.printer import print_graph
from rooftile.ir.schedule import option
from rooftile.ir.substitution import evaluate
from rooftile.target import Target

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("rooftile.codegen"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
)


def emit(kernel: Graph, target: Target, body: Graph | None = None) -> Kernel:
    """The Triton kernel of a tile-level graph.

    ``body``, the graph-level region that it computes, is quoted in the file and lets the file check itself.

    Raises:
        InternalError: the graph holds something that has no Triton text; passes are to avoid that.
    """
    return _Emission(kernel, target).kernel(body)


class _Emission:
    """Names, statements and parameters of one kernel."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.space = Space.of(graph)
        self.names = Names()
        # The plan binds a size to the parameter of its symbol's own name.
        self.sizes = {s: self.names.fresh(s.name) for s in graph.size_symbols()}
        self.name = self.names.fresh(readable(graph.name, "kernel"))
        self.buffers = {v: self.names.fresh(readable(v.name, "buffer"), "_ptr") for v in graph.inputs}

    def kernel(self, body: Graph | None) -> Kernel:
        """The kernel as data, its text checked for syntax."""
        statements = self.statements()
        params = self.params(statements)
        grid = launch_grid(self.graph, self.space)
        context = self.context(statements, params, body)
        source = _TEMPLATES.get_template("kernel.py.jinja2").render(context)
        try:
            ast.parse(source)
        except SyntaxError as error:
            raise InternalError(f"kernel {self.name} does not parse: {error}", op=str(error.text)) from error
        warps, stages = self.graph.attrs["num_warps"], self.graph.attrs["num_stages"]
        most = self.target.sm_count if option(self.graph.attrs, "persistent") else None
        return Kernel(self.name, source, params, grid, warps, stages, most)

    def statements(self) -> list[Statement]:
        """The kernel's body."""
        writer = Writer(self.names)
        sizes = {s.name: n for s, n in self.sizes.items()}
        positions = Positions(self.space, writer, self.names, sizes)
        values = Values(positions, writer, name_values(self.graph, self.buffers, self.names))
        with Grid(self.graph, positions, writer, self.target.sm_count).tiles():
            self.ops(values)
        return writer.body

    def ops(self, values: Values) -> None:
        """The kernel's ops, those of an epilogue in pieces once for each piece."""
        descriptors = option(self.graph.attrs, "descriptors")
        epilogue = epilogue_of(self.graph, self.space)
        before = self.graph.ops if epilogue is None else self.graph.ops[: -len(epilogue.ops)]
        OpWriter(values, self.buffers, descriptors=descriptors).block(before)
        if epilogue is None:
            return
        for piece in pieces(epilogue, values):
            OpWriter(piece, self.buffers, descriptors=descriptors).block(epilogue.ops)

    def params(self, statements: list[Statement]) -> tuple[KernelParam, ...]:
        """The buffers, then the run-time sizes that the text mentions."""
        used = {node.id for node in ast.walk(ast.parse(_text(statements))) if isinstance(node, ast.Name)}
        buffers = [KernelParam(name, "buffer", value.dtype.name) for value, name in self.buffers.items()]
        sizes = [
            KernelParam(name, "size", _size_type(symbol), symbol.divisor % 16 == 0)
            for symbol, name in self.sizes.items()
            if name in used
        ]
        return (*buffers, *sizes)

    def context(
        self, statements: list[Statement], params: tuple[KernelParam, ...], body: Graph | None
    ) -> dict[str, Any]:
        """What the templates print."""
        functions = functions_in(_text(statements))
        return {
            "header": _escape(self.header(body)),
            "ir": "" if body is None else _escape(print_graph(body).rstrip("\n")),
            "functions": functions,
            "libdevice": any("libdevice." in text for text in (_text(statements), *functions)),
            "name": self.name,
            "params": [p.name for p in params],
            "body": statements,
            "num_warps": self.graph.attrs["num_warps"],
            "num_stages": self.graph.attrs["num_stages"],
            **self.example(),
        }

    def header(self, body: Graph | None) -> str:
        """What the file's first lines say: the kernel's name, its schedule, and the user's lines that it computes."""
        schedule = ", ".join(
            f"{a.name} < {a.extent}: {a.role}" + ("" if a.role == "whole" else f"({a.tile})")
            for a in self.space.axes.values()
        )
        launch = f"{self.graph.attrs['num_warps']} warps, {self.graph.attrs['num_stages']} stages"
        lines = [f"{self.graph.name}, for {self.target.name}.", "", f"Schedule: {schedule}; {launch}."]
        sources = sorted({op.loc.source for op in body.ops if op.loc.source} if body is not None else ())
        return "\n".join([*lines, *(["", "Computes:", *(f"    {s}" for s in sources)] if sources else [])])

    def example(self) -> dict[str, Any]:
        """The arguments with which the file checks itself."""
        sizes = [example_size(s, n) for s, n in self.sizes.items()]
        bindings = {size.symbol: size.example for size in sizes}
        first_output = len(self.graph.inputs) - self.graph.attrs["outputs"]
        names = list(self.buffers.values())
        safe = largest_safe_index(self.graph.inputs, bindings)
        buffers = [
            example_buffer(v, name, bindings, output=n >= first_output, largest_index=safe)
            for n, (v, name) in enumerate(self.buffers.items())
        ]
        (programs,) = launch_grid(self.graph, self.space)
        return {
            "sizes": [asdict(size) for size in sizes],
            "buffers": buffers,
            "grid": evaluate(programs, bindings),
            "inputs": names[:first_output],
            "outputs": names[first_output:],
            "output_names": [f'"{v.name}"' for v in self.graph.inputs[first_output:]],
        }


def _size_type(symbol: Symbol) -> str:
    return "i64" if range_of_symbol(symbol).high > LARGEST_SIZE else "i32"


def _text(statements: list[Statement]) -> str:
    """All expressions of ``statements``, one a line."""
    lines: list[str] = []
    for statement in statements:
        if isinstance(statement, Loop):
            lines += [statement.start, statement.stop, _text(statement.body)]
        elif isinstance(statement, Store):
            lines += [statement.pointer, statement.value, statement.mask]
        else:
            lines.append(statement.text)
    return "\n".join(lines)


def _escape(text: str) -> str:
    """``text`` fit to stand between triple quotes."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
