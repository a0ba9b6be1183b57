"""What must hold of a graph, one function per rule; each yields what is wrong. ``rooftile.ir.verifier`` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rooftile.ir.core import Graph, Op, TensorType, Value, exprs, is_index_value
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Expr, Size, Symbol, symbols
from rooftile.ir.literals import type_text
from rooftile.ir.optable import InferenceError
from rooftile.ir.ranges import equal, equal_shapes
from rooftile.ir.schedule import OPTIONS
from rooftile.ir.scope import Scope
from rooftile.ir.text import GRAPH, KERNEL_ATTRS, TILE, is_kernel
from rooftile.ir.tile_ops import loop_starts

Complaints = Iterator[str]
ROLES = ("grid", "ragged", "loop", "whole")
PLACED = {"loop": ("loop",), "place": ("loop", "ragged")}  # the roles of axes that an op gives positions
# The first operand that `idx1` may stand for; -1 where there is none.
FIRST_INDEX_OPERAND = {"gather": 1, "scatter": 2, "load": 1, "store": 2, "index": 0, "inside": 0}


# Rules about an op.


def known_op(op: Op, scope: Scope) -> Complaints:
    """The op and its attributes are in the op table, and the attributes hold what IR text can hold."""
    row = scope.level.ops.get(op.name)
    if row is None:
        yield f"there is no {scope.level.keyword}-level op {op.name!r}"
        return
    for name, value in op.attrs.items():
        if name not in row.attrs:
            yield f"{op.name} has no attribute {name!r}; it takes {list(row.attrs)}"
        if (wrong := _not_an_attr(value)) is not None:
            yield f"attribute {name!r} holds {wrong!r}, a {type(wrong).__name__}"


def _not_an_attr(value: Any) -> Any:
    if isinstance(value, tuple):
        return next((wrong for item in value if (wrong := _not_an_attr(item)) is not None), None)
    return None if value is None or isinstance(value, (bool, int, float, str, DType, Expr)) else value


def operands_defined(op: Op, scope: Scope) -> Complaints:
    """Every operand is defined before it is read."""
    for value in op.inputs:
        if value not in scope.defined:
            yield f"%{value.name} is read before it is defined"


def results_fresh(op: Op, scope: Scope) -> Complaints:
    """Every result is a new value with a name that nothing else in the graph has."""
    for number, value in enumerate(op.outputs):
        if value in scope.defined or value in op.outputs[:number]:
            yield f"%{value.name} is defined a second time"
        elif value.name in scope.names or any(v.name == value.name for v in op.outputs[:number]):
            yield f"the name %{value.name} is taken"


def types_inferred(op: Op, scope: Scope) -> Complaints:
    """The results have the types that inference gives."""
    if op.name not in scope.level.ops:
        return
    try:
        wanted = _result_types(op, scope)
    except InferenceError as error:
        yield str(error)
        return
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # Inference unpacks operands and attributes; what cannot be unpacked has the wrong number or kind.
        yield f"{op.name} does not accept {len(op.inputs)} operands with these attributes ({error})"
        return
    got = tuple(v.type for v in op.outputs)
    if len(got) != len(wanted) or not all(_same_type(a, b, scope) for a, b in zip(got, wanted, strict=True)):
        told, found = (", ".join(type_text(t) for t in types) or "nothing" for types in (got, wanted))
        yield f"the result is typed {told}, and inference gives {found}"


def _result_types(op: Op, scope: Scope) -> tuple[TensorType, ...]:
    if op.name == "region":
        return tuple(v.type for v in op.regions[0].outputs) if op.regions else ()
    return scope.level.infer(op.name, [v.type for v in op.inputs], op.attrs)


def _same_type(a: TensorType, b: TensorType, scope: Scope) -> bool:
    return _same_elements(a, b) and (scope.level is GRAPH or a.axes == b.axes)


def _same_elements(a: TensorType, b: TensorType) -> bool:
    return a.dtype is b.dtype and equal_shapes(a.shape, b.shape)


def axes_distinct(op: Op, scope: Scope) -> Complaints:
    """A value has one name per dimension, and none twice."""
    for value in op.outputs:
        yield from _axes_distinct(value)


def _axes_distinct(value: Value) -> Complaints:
    axes = value.type.axes
    if axes is not None and (len(axes) != value.type.rank or len(set(axes)) != len(axes)):
        yield f"%{value.name} of rank {value.type.rank} has the axes {list(axes)}"


def region_types(op: Op, scope: Scope) -> Complaints:
    """A region's body takes the op's operands and gives its results; its kernel takes both as buffers."""
    if op.name == "region":
        yield from _body_and_kernel(op)
    elif op.name == "loop":
        yield from _loop_body(op)
    elif op.regions:
        yield f"{op.name} takes no regions"


def _body_and_kernel(op: Op) -> Complaints:
    if len(op.regions) not in (1, 2) or is_kernel(op.regions[0]):
        yield "a region has a body, and a kernel behind it once it is lowered"
        return
    inputs, beyond = op.regions[0].inputs, int("visits" in op.attrs)
    operands = op.inputs[: len(op.inputs) - beyond]
    yield from _same_values("the body's inputs", inputs, "the operands", operands)
    for kernel in op.regions[1:]:
        if not is_kernel(kernel):
            yield "a region's second graph must be its kernel"
            continue
        yield from _same_values("the kernel's buffers", kernel.inputs, "operands and results", op.inputs + op.outputs)
        if kernel.attrs.get("outputs") != len(op.outputs):
            yield f"the kernel writes {kernel.attrs.get('outputs')} buffers for the region's {len(op.outputs)} results"


def _loop_body(op: Op) -> Complaints:
    if len(op.regions) != 1:
        yield f"a loop has one body, not {len(op.regions)}"
        return
    (body,) = op.regions
    yield from _same_values("the body's inputs", body.inputs, "the carried values", loop_starts(op))
    yield from _same_values("what the body returns", body.outputs, "the carried values", loop_starts(op))


def _same_values(what: str, got: tuple[Value, ...], like: str, wanted: tuple[Value, ...]) -> Complaints:
    if len(got) != len(wanted):
        yield f"{what} are {len(got)}, and {like} are {len(wanted)}"
        return
    for a, b in zip(got, wanted, strict=True):
        if not _same_elements(a.type, b.type):
            yield f"%{a.name} of {what} is {type_text(a.type)}, and %{b.name} of {like} is {type_text(b.type)}"


def symbols_known(op: Op, scope: Scope) -> Complaints:
    """Every symbol is a run-time size with one set of facts, an axis that has a position here, or an index operand."""
    axes: dict[str, Size] = {name: scope.axes[name].extent for name in scope.open if name in scope.axes}
    if scope.level is GRAPH and "axes" in op.attrs:
        axes = dict(op.attrs["axes"])
    first = FIRST_INDEX_OPERAND.get(op.name)
    indices = 0 if first is None else len(op.inputs) - first
    for expr in exprs((tuple(op.attrs.values()), tuple(v.shape for v in op.outputs))):
        for symbol in symbols(expr):
            yield from _symbol_known(symbol, axes, indices, scope)


def _symbol_known(symbol: Symbol, axes: dict[str, Size], indices: int, scope: Scope) -> Complaints:
    if symbol.extent is not None:
        if symbol.name not in axes:
            yield f"the axis {symbol.name} has no position here; these have: {', '.join(sorted(axes)) or 'none'}"
        elif not equal(axes[symbol.name], symbol.extent):
            yield f"the axis {symbol.name} runs to {symbol.extent}, and its op or kernel says {axes[symbol.name]}"
    elif is_index_value(symbol.name):
        if not 1 <= int(symbol.name[3:]) <= indices:
            yield f"{symbol.name} stands for an index operand, and there are {indices}"
    elif scope.sizes.setdefault(symbol.name, symbol) != symbol:
        yield f"the size {symbol.name} has other facts than where it occurred first"


def tiles_fit(op: Op, scope: Scope) -> Complaints:
    """A tile's axes are the kernel's, have a position here, and are as long as the axis' tile."""
    for value in op.outputs:
        for name, length in zip(value.type.axes or (), value.shape, strict=False):
            if name not in scope.axes or name not in scope.open:
                yield f"%{value.name} varies along {name}, which has no position here"
            elif scope.axes[name].tile != length:
                yield f"%{value.name} holds {length} of {name}, whose tile is {scope.axes[name].tile}"


def buffers_used(op: Op, scope: Scope) -> Complaints:
    """Only loads read buffers, only stores write them, and only those that are the kernel's outputs."""
    for number, value in enumerate(op.inputs):
        wanted = number == 0 and op.name in ("load", "store")
        if wanted != (value in scope.buffers):
            yield f"operand {number} of {op.name}, %{value.name}, must be a {'buffer' if wanted else 'tile'}"
    if op.name == "store" and op.inputs[:1] and op.inputs[0] not in scope.written:
        yield f"%{op.inputs[0].name} is none of the kernel's outputs"


def open_axis(op: Op, scope: Scope) -> Complaints:
    """A tile's first position is asked for where its axis has one; a loop runs over an axis of that role, once, and a
    tile of such an axis is placed once."""
    if op.name == "first" and op.attrs.get("axis") not in scope.open:
        yield f"the axis {op.attrs.get('axis')} has no position here"
    if op.name not in PLACED:
        return
    axis = scope.axes.get(op.attrs.get("axis", ""))
    if axis is None or axis.role not in PLACED[op.name]:
        yield f"{op.attrs.get('axis')} is no {' or '.join(PLACED[op.name])} axis of the kernel"
    elif op.attrs["axis"] in scope.open:
        yield f"{op.attrs['axis']} already has a position here"


# Rules about a graph.


def inputs_distinct(graph: Graph, scope: Scope) -> Complaints:
    """No input stands twice, and no two have one name."""
    if len({v.name for v in graph.inputs}) != len(graph.inputs):
        yield f"the inputs {[v.name for v in graph.inputs]} have a name twice"
    for value in graph.inputs:
        yield from _axes_distinct(value)
        for expr in exprs((value.shape, value.type.strides)):
            for symbol in symbols(expr):
                yield from _symbol_known(symbol, {}, 0, scope)


def kernel_attrs(graph: Graph, scope: Scope) -> Complaints:
    """A kernel says how it is launched, and returns nothing."""
    if not is_kernel(graph):
        return
    if {*graph.attrs, *OPTIONS, "backwards"} != set(KERNEL_ATTRS):
        yield f"a kernel has the attributes {list(KERNEL_ATTRS)}, not {list(graph.attrs)}"
        return
    if graph.outputs:
        yield "a kernel stores its results and returns nothing"
    for name, axis in scope.axes.items():
        if axis.role not in ROLES:
            yield f"the axis {name} has the role {axis.role!r}; roles are {list(ROLES)}"
        if axis.tile < 1 or axis.tile & (axis.tile - 1):
            yield f"the tile {axis.tile} of {name} is no power of two"
    grid = {name for name, axis in scope.axes.items() if axis.role == "grid"}
    if set(graph.attrs["grid"]) != grid or len(graph.attrs["grid"]) != len(grid):
        yield f"grid is {list(graph.attrs['grid'])}, and the axes of that role are {sorted(grid)}"
    if unknown := set(graph.attrs.get("backwards") or ()) - grid:
        yield f"tiles of {sorted(unknown)} are to be taken backwards, and no axis of the grid is called so"
    if not 0 <= graph.attrs["outputs"] <= len(graph.inputs):
        yield f"outputs is {graph.attrs['outputs']}, of {len(graph.inputs)} buffers"


def outputs_defined(graph: Graph, scope: Scope) -> Complaints:
    """Every output is defined; ``scope`` is that at the graph's end."""
    for value in graph.outputs:
        if value not in scope.defined:
            yield f"the output %{value.name} is not defined"


OpRule = Callable[[Op, Scope], Complaints]
GraphRule = Callable[[Graph, Scope], Complaints]
OP_RULES: dict[str, tuple[OpRule, ...]] = {
    GRAPH.keyword: (
        known_op,
        operands_defined,
        results_fresh,
        region_types,
        types_inferred,
        axes_distinct,
        symbols_known,
    ),
    TILE.keyword: (
        known_op,
        operands_defined,
        results_fresh,
        region_types,
        buffers_used,
        types_inferred,
        axes_distinct,
        symbols_known,
        tiles_fit,
        open_axis,
    ),
}
START_RULES: tuple[GraphRule, ...] = (inputs_distinct, kernel_attrs)
END_RULES: tuple[GraphRule, ...] = (outputs_defined,)
