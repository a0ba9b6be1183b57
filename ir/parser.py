"""Text as graphs; the grammar stands in ``rooftile.ir.text``.

Types are inferred anew from the op tables. What the text says must agree with them; at graph level the text adds names
of axes and strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rooftile.errors import InputError, ParseError
from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.leaf_parser import LeafParser
from rooftile.ir.lexer import Token, unquote
from rooftile.ir.literals import type_text
from rooftile.ir.optable import InferenceError, OpDef
from rooftile.ir.ranges import equal_shapes
from rooftile.ir.text import FUNCTIONS, KEYWORDS, NAME_ATTRS, TILE, USUAL, Level

Names = dict[str, Value]
GRAPH_OR_KERNEL = ("graph", "kernel")


def text_in(path: Path) -> str:
    """The text of a file of IR.

    Raises:
        InputError: the file cannot be read.
        ParseError: it holds something else than text.
    """
    try:
        content = path.read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        before = content[: error.start].split(b"\n")
        what = f"expected text in UTF-8, found the byte {content[error.start]:#04x}"
        raise ParseError(what, line=len(before), column=len(before[-1]) + 1, source=path.name) from error


def parse_file(path: Path) -> Graph:
    """The graph that a file holds. Raises InputError and ParseError, as ``text_in`` and ``parse_graph`` do."""
    return parse_graph(text_in(path), path.name)


def parse_graph(text: str, source: str = "") -> Graph:
    """The graph that ``text`` holds; ``source`` (a file's name) stands in messages.

    Raises:
        ParseError: with line and column, the nearest known name where one is unknown, and what inference wants.
    """
    parser = GraphParser(text, source)
    if parser.token.text == "symbols":
        parser.advance()
        parser.facts()
    graph = parser.graph({}, GRAPH_OR_KERNEL)
    if parser.token.kind != "end":
        parser.fail(f"expected the end of the text, found {parser.shown(parser.token)}")
    return graph


class GraphParser(LeafParser):
    """Reads graphs and ops."""

    def graph(self, around: Names, keywords: tuple[str, ...]) -> Graph:
        """Read a graph that starts with one of ``keywords``; a ``body`` sees the values ``around`` it."""
        if self.token.text not in keywords:
            self.fail(f"expected {' or '.join(keywords)}, found {self.shown(self.token)}")
        keyword = self.advance().text
        level = KEYWORDS[keyword]
        name = unquote(self.advance()) if self.token.kind == "string" else self.name("the graph's name")
        names = dict(around) if keyword == "body" else {}
        own: set[str] = set()
        self.symbols = self.symbols.new_child()
        inputs = self._params(names, own, level if keyword == "body" else None)
        self.expect("{")
        attrs = self._graph_attrs(keyword)
        ops: list[Op] = []
        while self.token.text not in ("return", "}"):
            ops.append(self.op(names, own, level))
        outputs = self._returned(names)
        self.expect("}")
        self.symbols = self.symbols.parents
        return Graph(name, inputs, tuple(ops), outputs, freeze_attrs(attrs))

    def _params(self, names: Names, own: set[str], level: Level | None) -> tuple[Value, ...]:
        self.expect("(")
        params = []
        for _ in self.separated(")"):
            token = self.expect_kind("value", "a parameter such as %x")
            self.expect(":")
            params.append(self._define(token, _scalar_axes(self.type(), level), names, own))
        return tuple(params)

    def _define(self, token: Token, type: TensorType, names: Names, own: set[str]) -> Value:
        name = unquote(token)
        if name in own:
            self.fail(f"{token.text} is defined twice", token)
        own.add(name)
        names[name] = Value(name, type)
        return names[name]

    def _use(self, names: Names) -> Value:
        token = self.expect_kind("value", "a value such as %x")
        name = unquote(token)
        if name not in names:
            self.fail_unknown("value", name, names, token)
        return names[name]

    def _graph_attrs(self, keyword: str) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        axes = []
        while self.accept("axis"):
            axes.append(self._kernel_axis())
        if axes or keyword == "kernel":
            attrs["axes"] = tuple(axes)
        if self.accept("with"):
            while True:
                name = self.name("an attribute")
                self.expect("=")
                attrs[name] = self.attr(names=name in NAME_ATTRS)
                if not self.accept(","):
                    break
        return attrs

    def _kernel_axis(self) -> tuple[Any, ...]:
        name = self.name("an axis")
        self.expect("=")
        extent = self.size()
        self.expect(":")
        role = self.name("a role")
        self.expect("(")
        tile = self.integer()
        self.expect(")")
        self.bind(((name, extent),))
        return name, extent, role, tile

    def _returned(self, names: Names) -> tuple[Value, ...]:
        if not self.accept("return"):
            return ()
        values = [self._use(names)]
        while self.accept(","):
            values.append(self._use(names))
        return tuple(values)

    def op(self, names: Names, own: set[str], level: Level) -> Op:
        """Read one op and its regions; define its results in ``names``."""
        results = self._results()
        start = self.token
        self.symbols = self.symbols.new_child()
        name, attrs = self._head(level)
        inputs, subscripts = self._operands(names, name, attrs, level)
        self.symbols = self.symbols.parents
        self._place(subscripts, attrs, level.ops[name], start)
        types_start = self.following()
        given = self._types()
        loc = self.loc()
        regions = self._regions(names, level)
        attrs = _completed(name, attrs, given, level)
        types = self._inferred(name, inputs, attrs, regions, level, start)
        if given:
            types = self._agreed(given, types, level, types_start)
        if len(types) != len(results):
            self.fail(f"{name} has {len(types)} results, and {len(results)} are named", start)
        outputs = tuple(self._define(t, type, names, own) for t, type in zip(results, types, strict=True))
        return Op(name, inputs, outputs, freeze_attrs(attrs), regions, loc)

    def _results(self) -> list[Token]:
        tokens: list[Token] = []
        while self.token.kind == "value":
            tokens.append(self.advance())
            if not self.accept(","):
                self.expect("=")
                break
        return tokens

    def _head(self, level: Level) -> tuple[str, dict[str, Any]]:
        token = self.expect_kind("name", "an op")
        name = token.text
        attrs: dict[str, Any] = {}
        if name not in level.ops:
            self.fail_unknown(f"{level.keyword}-level op", name, level.ops, token)
        if self.accept("."):
            function = self.expect_kind("name", "a function")
            known = FUNCTIONS.get(name, {})
            if function.text not in known:
                self.fail_unknown(f"function of {name}", function.text, known, function)
            attrs["fn"] = function.text
        if self.token.text == "[":
            attrs["axes"] = self.axes()
        return name, attrs

    def _operands(
        self, names: Names, op: str, attrs: dict[str, Any], level: Level
    ) -> tuple[tuple[Value, ...], list[Any]]:
        """Operands and what stands in brackets behind each (None: nothing); attributes go into ``attrs``."""
        inputs: list[Value] = []
        subscripts: list[Any] = []
        self.expect("(")
        for _ in self.separated(")"):
            if self.token.kind == "value":
                inputs.append(self._use(names))
                subscripts.append(self.sizes() if self.token.text == "[" else None)
                continue
            token = self.expect_kind("name", "an operand or an attribute")
            name = token.text
            if name not in level.ops[op].attrs:
                self.fail_unknown(f"attribute of {op}", name, level.ops[op].attrs, token)
            self.expect("=")
            attrs[name] = self.attr(names=name in NAME_ATTRS)
            if name == "axes" and level is not TILE:
                self._bind_attr(attrs[name], token)
        return tuple(inputs), subscripts

    def _bind_attr(self, axes: Any, token: Token) -> None:
        if not isinstance(axes, tuple) or not all(isinstance(a, tuple) and len(a) == 2 for a in axes):
            self.fail("expected axes={name: extent, ...}", token)
        self.bind(axes)

    def _place(self, subscripts: list[Any], attrs: dict[str, Any], row: OpDef, start: Token) -> None:
        """Put what stands in brackets behind operands where the op has it: its ``maps``, or its ``index``."""
        if "maps" in row.attrs and "maps" not in attrs:
            attrs["maps"] = tuple(s for s in subscripts if s is not None)
        elif "index" in row.attrs and subscripts and subscripts[0] is not None:
            attrs["index"] = subscripts[0]
            subscripts = subscripts[1:]
        if "maps" not in row.attrs and any(s is not None for s in subscripts):
            self.fail(f"{row.name} takes no index behind an operand", start)

    def _types(self) -> tuple[TensorType, ...]:
        if not self.accept(":"):
            return ()
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        return tuple(types)

    def _regions(self, names: Names, level: Level) -> tuple[Graph, ...]:
        allowed = ("body",) if level is TILE else GRAPH_OR_KERNEL
        regions = []
        while self.token.text in KEYWORDS and self.token.kind == "name":
            regions.append(self.graph(names, allowed))
        return tuple(regions)

    def _inferred(
        self,
        name: str,
        inputs: tuple[Value, ...],
        attrs: Mapping[str, Any],
        regions: tuple[Graph, ...],
        level: Level,
        start: Token,
    ) -> tuple[TensorType, ...]:
        if name == "region":
            if not regions:
                self.fail("a region has no body", start)
            return tuple(v.type for v in regions[0].outputs)
        try:
            return level.infer(name, [v.type for v in inputs], attrs)
        except InferenceError as error:
            self.fail(str(error), start)
        except (ValueError, IndexError, TypeError, AttributeError):
            # Inference unpacks its operands and attributes; what cannot be unpacked has the wrong number or kind.
            self.fail(f"{name} does not accept {len(inputs)} operands with these attributes: {dict(attrs)}", start)

    def _agreed(
        self, given: tuple[TensorType, ...], inferred: tuple[TensorType, ...], level: Level, start: Token
    ) -> tuple[TensorType, ...]:
        if len(given) != len(inferred) or not all(_agree(g, i, level) for g, i in zip(given, inferred, strict=True)):
            told, found = (", ".join(type_text(t) for t in types) for types in (given, inferred))
            self.fail(f"the result is {found}, not {told}", start)
        return inferred if level is TILE else given


def _scalar_axes(type: TensorType, level: Level | None) -> TensorType:
    """A tile scalar's type: no axes, which text cannot tell from unnamed ones."""
    return TensorType(type.dtype, (), ()) if level is TILE and not type.shape else type


def _agree(given: TensorType, inferred: TensorType, level: Level) -> bool:
    same = given.dtype is inferred.dtype and equal_shapes(given.shape, inferred.shape)
    return same and (level is not TILE or (given.axes or ()) == inferred.axes)


def _completed(op: str, attrs: dict[str, Any], types: tuple[TensorType, ...], level: Level) -> dict[str, Any]:
    """``attrs`` with those that text leaves out, in the order of the op's row."""
    full = USUAL.get(op, {}) | attrs
    for name, derive in level.from_result.get(op, {}).items() if types else ():
        if name not in full:
            full[name] = derive(types)
    return {name: full[name] for name in level.ops[op].attrs if name in full}
