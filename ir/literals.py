"""How the leaves of the IR are written: sizes, attributes, types, locations. The grammar is in ``rooftile.ir.text``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from rooftile.ir.core import UNKNOWN, Loc, TensorType
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Expr, Size, Symbol, of, symbols
from rooftile.ir.substitution import rebuild
from rooftile.ir.text import NAME_ATTRS, TAGS, name_text, quoted, symbol_text

_CONSTANTS = {None: "none", True: "true", False: "false"}
_PLAIN_FILE = re.compile(r'[^\s":@#`]+')


def size_text(size: Size) -> str:
    """A size, with symbols of reserved names between backticks."""
    return str(size) if isinstance(size, int) else _expr_text(size)


@lru_cache(maxsize=65536)
def _expr_text(size: Expr) -> str:
    if any(symbol_text(s.name) != s.name for s in symbols(size)):
        return str(rebuild(size, lambda s: of(replace(s, name=symbol_text(s.name)))))
    return str(size)


def attr_text(name: str, value: Any) -> str:
    """The attribute ``name`` as ``name=value``."""
    if name == "guard":
        return f"{name}=[{', '.join(f'{size_text(e)} < {size_text(extent)}' for e, extent in value)}]"
    return f"{name}={_attr_value(value, name in NAME_ATTRS)}"


def _attr_value(value: Any, names: bool) -> str:
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, str):
        bare = names and value.isidentifier() and value not in _CONSTANTS.values()
        return value if bare else quoted(value)
    if isinstance(value, (tuple, list)):
        return _tuple_text(tuple(value), names)
    if isinstance(value, Expr):
        return size_text(value)
    return value.name if isinstance(value, DType) else repr(value)


def _tuple_text(items: tuple[Any, ...], names: bool) -> str:
    if _is_operand(items):
        return f"${items[1]}"
    if _is_tagged(items):
        return f"{items[0]}({', '.join(_attr_value(item, names) for item in items[1:])})"
    if items and all(_is_named(item) for item in items):
        return "{" + ", ".join(f"{key}: {_attr_value(value, names)}" for key, value in items) + "}"
    return "[" + ", ".join(_attr_value(item, names) for item in items) + "]"


def _is_operand(items: tuple[Any, ...]) -> bool:
    return len(items) == 2 and items[0] == "operand" and type(items[1]) is int and items[1] >= 0


def _is_tagged(items: tuple[Any, ...]) -> bool:
    return bool(items) and isinstance(items[0], str) and items[0] in TAGS


def _is_named(item: Any) -> bool:
    pair = isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str) and item[0].isidentifier()
    return pair and item[0] not in TAGS


def sizes_text(sizes: Iterable[Size]) -> str:
    """Sizes or index expressions, ``[4, s]``."""
    return "[" + ", ".join(size_text(s) for s in sizes) + "]"


def axes_text(axes: Iterable[tuple[str, Size]]) -> str:
    """Named sizes, ``[b=4, t=s]``."""
    return "[" + ", ".join(f"{name_text(name)}={size_text(size)}" for name, size in axes) + "]"


def type_text(t: TensorType) -> str:
    """A type: ``bf16[b=4, t=s]``, or ``bf16[4, s]`` where the axes have no names; strides, if any, come last."""
    shape = sizes_text(t.shape) if t.axes is None else axes_text(zip(t.axes, t.shape, strict=True))
    strides = "" if t.strides is None else f" strides {sizes_text(t.strides)}"
    return f"{t.dtype.name}{shape}{strides}"


def fact_text(symbol: Symbol) -> str:
    """What is known of a run-time size: ``s: 1..4096 % 16``."""
    hi = "" if symbol.hi is None else symbol.hi
    divisor = "" if symbol.divisor == 1 else f" % {symbol.divisor}"
    return f"{name_text(symbol.name)}: {symbol.lo}..{hi}{divisor}"


def loc_text(loc: Loc) -> str:
    """A location with two spaces before it, or nothing where it isn't known."""
    if loc == UNKNOWN:
        return ""
    module = f" {quoted(loc.module)}" if loc.module else ""
    file = loc.file if _PLAIN_FILE.fullmatch(loc.file) else quoted(loc.file)
    return f"  @{module}{f' {file}:{loc.line}' if loc.file or loc.line else ''}"
