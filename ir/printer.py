"""Graphs as text; the grammar stands in ``rooftile.ir.text``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rooftile.ir.core import Graph, Op, Value, unique_name
from rooftile.ir.literals import attr_text, axes_text, fact_text, loc_text, size_text, sizes_text, type_text
from rooftile.ir.text import GRAPH, KERNEL_ATTRS, TILE, USUAL, Level, is_kernel, name_text, quoted, value_text

_INDENT = "    "


def print_graph(graph: Graph) -> str:
    """The exact text of ``graph``, ending in a newline."""
    facts = ", ".join(fact_text(s) for s in graph.size_symbols())
    header = f"symbols {facts}\n" if facts else ""
    level = TILE if is_kernel(graph) else GRAPH
    return header + "\n".join(_graph_lines(graph, level.keyword, level, {}, "")) + "\n"


def print_op(op: Op, level: Level = GRAPH) -> str:
    """One op on one line, without its regions."""
    return _op_text(op, level, {})


def _graph_lines(graph: Graph, keyword: str, level: Level, around: Mapping[Value, str], indent: str) -> Iterator[str]:
    """``around`` names the values outside that the graph may read."""
    names = _names(graph, around)
    inner = indent + _INDENT
    params = ", ".join(f"{_value(v, names)}: {type_text(v.type)}" for v in graph.inputs)
    name = graph.name if graph.name.isidentifier() else quoted(graph.name)
    yield f"{indent}{keyword} {name}({params}) {{"
    yield from (inner + line for line in _graph_attrs(graph, keyword))
    for op in graph.ops:
        yield inner + _op_text(op, level, names)
        for region in op.regions:
            yield from _region_lines(region, level, names, inner + _INDENT)
    if graph.outputs:
        yield f"{inner}return {', '.join(_value(v, names) for v in graph.outputs)}"
    yield f"{indent}}}"


def _region_lines(region: Graph, level: Level, names: Mapping[Value, str], indent: str) -> Iterator[str]:
    if is_kernel(region):
        return _graph_lines(region, "kernel", TILE, {}, indent)
    if level is TILE:
        return _graph_lines(region, "body", TILE, names, indent)
    return _graph_lines(region, "graph", GRAPH, {}, indent)


def _names(graph: Graph, around: Mapping[Value, str]) -> dict[Value, str]:
    """How each value that the graph's ops may read is called: by its own name unless another one in sight has that."""
    names = dict(around)
    taken = set(names.values())
    for value in graph.values():
        if value not in names:
            names[value] = unique_name(value.name, taken)
            taken.add(names[value])
    return names


def _graph_attrs(graph: Graph, keyword: str) -> Iterator[str]:
    attrs = dict(graph.attrs)
    if keyword == "kernel":
        for name, extent, role, tile in attrs.pop("axes", ()):
            yield f"axis {name_text(name)} = {size_text(extent)} : {role}({tile})"
    order = {name: number for number, name in enumerate(KERNEL_ATTRS)}
    rest = sorted(attrs, key=lambda name: (order.get(name, len(order)), name))
    if rest:
        yield f"with {', '.join(attr_text(name, attrs[name]) for name in rest)}"


def _op_text(op: Op, level: Level, names: Mapping[Value, str]) -> str:
    attrs = _spelled_attrs(op, level)
    head = ", ".join(_value(v, names) for v in op.outputs)
    head += f" = {op.name}" if head else op.name
    if isinstance(attrs.get("fn"), str) and attrs["fn"].isidentifier():
        head += f".{attrs.pop('fn')}"
    subscripts = _subscripts(op, attrs)
    if "maps" in op.attrs and "maps" not in attrs:
        head += axes_text(attrs.pop("axes"))
    operands = [
        _value(v, names) + (sizes_text(subscripts[n]) if n in subscripts else "") for n, v in enumerate(op.inputs)
    ]
    inside = ", ".join([*operands, *(attr_text(name, value) for name, value in attrs.items())])
    types = f" : {', '.join(type_text(v.type) for v in op.outputs)}" if op.outputs else ""
    return f"{head}({inside}){types}{loc_text(op.loc)}"


def _value(value: Value, names: Mapping[Value, str]) -> str:
    return value_text(names.get(value, value.name))


def _subscripts(op: Op, attrs: dict[str, Any]) -> dict[int, Any]:
    """What stands in brackets after each operand; takes it out of ``attrs``."""
    if "maps" in attrs and "axes" in attrs and len(attrs["maps"]) == len(op.inputs):
        return dict(enumerate(attrs.pop("maps")))
    if "index" in attrs and op.inputs:
        return {0: attrs.pop("index")}
    return {}


def _spelled_attrs(op: Op, level: Level) -> dict[str, Any]:
    """The attributes that must be written, in the order of the op's row."""
    row = level.ops.get(op.name)
    order = [*(row.attrs if row else ()), *op.attrs]
    attrs = {name: op.attrs[name] for name in order if name in op.attrs}
    for name, value in USUAL.get(op.name, {}).items():
        if name in attrs and attrs[name] == value:
            del attrs[name]
    types = tuple(v.type for v in op.outputs)
    for name, derive in level.from_result.get(op.name, {}).items():
        if types and name in attrs and attrs[name] == derive(types):
            del attrs[name]
    return attrs
