"""Reading the leaves of IR text: sizes, attributes, types, locations. The grammar is in ``rooftile.ir.text``."""

from __future__ import annotations

import json
import math
import operator
import re
from collections import ChainMap
from collections.abc import Callable
from typing import Any

from rooftile.ir.core import UNKNOWN, Loc, TensorType, is_index_value
from rooftile.ir.dtypes import DTYPES, DType
from rooftile.ir.expr import Expr, Size, axis, symbol
from rooftile.ir.lexer import Cursor, Token, unquote

_LITERALS: dict[str, Any] = {"none": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}
_STRING = r'"(?:[^"\\]|\\.)*"'
_LOC = re.compile(rf'@(?:\s+(?P<module>{_STRING})(?!:))?(?:\s+(?P<file>{_STRING}|[^\s":]+):(?P<line>\d+))?\s*(?:#.*)?')
_SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {"*": operator.mul, "//": operator.floordiv, "%": operator.mod}


class LeafParser(Cursor):
    """A cursor that reads leaves. ``symbols`` holds what names in sizes stand for, innermost scope first."""

    def __init__(self, text: str, source: str = "") -> None:
        super().__init__(text, source)
        self.symbols: ChainMap[str, Expr] = ChainMap()

    def facts(self) -> None:
        """Read the facts of the run-time sizes into ``symbols``."""
        while True:
            token, name = self.token, self.name("the name of a size")
            if is_index_value(name):
                self.fail(f"{name} is the value of an index operand", token, fix="give the size another name")
            self.expect(":")
            lo = self.integer()
            self.expect("..")
            hi = self.integer() if self.token.kind == "int" or self.token.text == "-" else None
            self.symbols[name] = symbol(name, lo=lo, hi=hi, divisor=self.integer() if self.accept("%") else 1)
            if not self.accept(","):
                return

    def axes(self) -> tuple[tuple[str, Size], ...]:
        """Read ``[b=4, t=s]`` and bind the axes in the innermost scope."""
        self.expect("[")
        found: list[tuple[str, Size]] = []
        for _ in self.separated("]"):
            name = self.name("an axis")
            self.expect("=")
            found.append((name, self.size()))
        self.bind(tuple(found))
        return tuple(found)

    def bind(self, axes: tuple[tuple[str, Size], ...]) -> None:
        """Let each axis' name stand for the axis in what follows."""
        for name, extent in axes:
            self.symbols[name] = axis(name, extent)

    def size(self) -> Size:
        """Read a size or an index expression."""
        start = self.token
        return self._as_size(self._sum(), start)

    def sizes(self) -> tuple[Size, ...]:
        """Read ``[size, ...]``."""
        self.expect("[")
        return tuple(self.size() for _ in self.separated("]"))

    def attr(self, *, names: bool = False) -> Any:
        """Read an attribute's value; a bare name is a string where ``names``."""
        text = self.token.text
        if text == "[":
            self.advance()
            return tuple(self.attr(names=names) for _ in self.separated("]"))
        if text == "{":
            self.advance()
            return tuple(self._named(names) for _ in self.separated("}"))
        if text == "$":
            self.advance()
            return ("operand", self.integer())
        if self.token.kind == "string":
            return unquote(self.advance())
        if self.token.kind == "name" and self.following().text == "(":
            return self._tagged(names)
        if names and self.token.kind == "name" and text not in _LITERALS:
            return self.name()
        return self._size_or_pair()

    def _named(self, names: bool) -> tuple[str, Any]:
        name = self.name()
        self.expect(":")
        return name, self.attr(names=names)

    def _tagged(self, names: bool) -> tuple[Any, ...]:
        tag = self.name()
        self.expect("(")
        return (tag, *(self.attr(names=names) for _ in self.separated(")")))

    def _size_or_pair(self) -> Any:
        start = self.token
        value = self._sum()
        if not self.accept("<"):
            return value
        return (self._as_size(value, start), self.size())

    def _sum(self) -> Any:
        return self._chain(_SUMS, self._product)

    def _product(self) -> Any:
        return self._chain(_PRODUCTS, self._factor)

    def _chain(self, operations: dict[str, Callable[[Any, Any], Any]], part: Callable[[], Any]) -> Any:
        start = self.token
        left = part()
        while (operation := operations.get(self.token.text)) is not None and self.token.kind == "sign":
            self.advance()
            right_start = self.token
            left = operation(self._as_size(left, start), self._as_size(part(), right_start))
        return left

    def _factor(self) -> Any:
        token = self.token
        if token.kind == "int":
            return int(self.advance().text)
        if token.kind == "name":
            return self._meaning(self.advance())
        if token.kind == "float":
            return float(self.advance().text)
        if self.accept("-"):
            return -self._negatable(self._factor(), token)
        if self.accept("("):
            inner = self.size()
            self.expect(")")
            return inner
        self.fail(f"expected a size or another attribute value, found {self.shown(token)}")

    def _negatable(self, value: Any, token: Token) -> Any:
        return value if isinstance(value, float) else self._as_size(value, token)

    def _meaning(self, token: Token) -> Any:
        name = token.text
        if name in _LITERALS:
            return _LITERALS[name]
        if name in DTYPES:
            return DTYPES[name]
        name = name.strip("`")
        found = self.symbols.get(name)
        if found is None and is_index_value(name):
            found = symbol(name)
        if found is None:
            self.fail_unknown("size or axis", name, self.symbols, token)
        return found

    def _as_size(self, value: Any, token: Token) -> Size:
        if isinstance(value, Expr) or type(value) is int:
            return value
        self.fail(f"expected a size, found {self.shown(token)}", token)

    def type(self) -> TensorType:
        """Read a type; ``axes`` is None where its dimensions have no names."""
        dtype = self._dtype()
        self.expect("[")
        axes: list[str] = []
        shape: list[Size] = []
        for _ in self.separated("]"):
            start = self.token
            if start.kind == "name" and self.following().text == "=":
                axes.append(self.name())
                self.advance()
            shape.append(self.size())
            if axes and len(axes) != len(shape):
                self.fail("either all dimensions have names or none", start)
        strides = self.sizes() if self.token.kind == "name" and self.accept("strides") else None
        return TensorType(dtype, tuple(shape), tuple(axes) if axes else None, strides)

    def _dtype(self) -> DType:
        token = self.expect_kind("name", "a type")
        if token.text not in DTYPES:
            self.fail_unknown("dtype", token.text, DTYPES, token)
        return DTYPES[token.text]

    def loc(self) -> Loc:
        """Read a location; where none stands it is unknown."""
        if self.token.kind != "loc":
            return UNKNOWN
        found = _LOC.fullmatch(self.token.text)
        if found is None:
            self.fail('expected a location: @ "module" file:line')
        self.advance()
        module, file, line = found["module"], found["file"] or "", found["line"]
        return Loc(
            json.loads(module) if module else "", json.loads(file) if file.startswith('"') else file, int(line or 0)
        )
