"""Cuts a captured graph at the calls of functions of functions that torch runs itself: branches and loops on data.

Between the calls are pieces, captures of their own; what a call calls is a capture as well, where it can be. Tensors
that pass between them are contiguous, whatever layout the trace saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import getitem
from typing import Any, TypeAlias

import torch
from torch import fx
from torch._ops import HigherOrderOperator
from torch.utils._pytree import tree_leaves

from rooftile.errors import UnsupportedError
from rooftile.frontend.captured import Captured, CapturedInput
from rooftile.frontend.definitions import write_out_definitions
from rooftile.frontend.nodes import functions_of, is_tensor
from rooftile.frontend.provenance import loc_of
from rooftile.frontend.sizes import to_size

_BY_LAYOUT = (torch.ops.aten.as_strided.default, torch.ops.aten.as_strided_scatter.default)


@dataclass(frozen=True)
class Piece:
    """Ops that run without a call between them: ``captured`` computes the values ``makes`` from the tensors ``reads``,
    nodes of the graph that was cut."""

    captured: Captured
    reads: tuple[fx.Node, ...]
    makes: tuple[fx.Node, ...]


@dataclass(frozen=True)
class FunctionCall:
    """A call that torch runs; ``functions`` are those that it is given, by the nodes that name them. A value of the
    graph is item ``items[value]`` of what it returns."""

    node: fx.Node
    functions: Mapping[fx.Node, fx.GraphModule]
    items: Mapping[fx.Node, int]


Cut: TypeAlias = Piece | FunctionCall


def calls_of(captured: Captured) -> list[fx.Node]:
    """The calls of functions of functions in the captured graph."""
    return [n for n in captured.module.graph.nodes if isinstance(n.target, HigherOrderOperator)]


def cut(captured: Captured) -> list[Cut]:
    """The pieces and calls in the order in which they run.

    Raises:
        UnsupportedError: a value is read by its place in memory, or a call gives something else than tensors.
    """
    found: list[Cut] = []
    ops: list[fx.Node] = []
    for node in captured.module.graph.nodes:
        if node.op != "call_function" or _is_item_of_call(node):
            continue
        if node.target in _BY_LAYOUT:
            raise UnsupportedError(
                f"{node.target} beside a function of functions, between which tensors are contiguous",
                where=loc_of(node).source,
            )
        if not isinstance(node.target, HigherOrderOperator):
            ops.append(node)
            continue
        found += _piece(captured, ops)
        found.append(_call(node))
        ops = []
    return [*found, *_piece(captured, ops)]


def captured_function(function: fx.GraphModule) -> Captured:
    """A function that a call is given, as a capture whose results are the tensors that it returns.

    Raises:
        UnsupportedError: it returns something else than tensors that it computes, or takes something else than tensors
            and sizes known in advance.
    """
    write_out_definitions(function)
    graph = function.graph
    inputs = [_input(node, node) for node in graph.nodes if node.op == "placeholder"]
    results = tuple(dict.fromkeys(tree_leaves(graph.output_node().args[0])))
    if not all(isinstance(r, fx.Node) and r.op == "call_function" and is_tensor(r) for r in results):
        raise UnsupportedError("a function that a call is given returns what it was given, or no tensor")
    return _captured(function, inputs, results, ())


def _is_item_of_call(node: fx.Node) -> bool:
    source = node.args[0] if node.target is getitem else None
    return isinstance(source, fx.Node) and isinstance(source.target, HigherOrderOperator)


def _call(node: fx.Node) -> FunctionCall:
    items = {user: user.args[1] for user in node.users}
    if not all(user.target is getitem and is_tensor(user) for user in items):
        raise UnsupportedError(f"{node.target} gives something else than tensors", where=loc_of(node).source)
    return FunctionCall(node, functions_of(node), items)  # type: ignore[arg-type]


def _piece(captured: Captured, ops: Sequence[fx.Node]) -> Iterator[Piece]:
    """The ops as a piece, if anything that they compute is wanted behind them."""
    inside = set(ops)
    makes = tuple(n for n in ops if is_tensor(n) and (n in captured.results or _is_read_outside(n, inside)))
    if not makes:
        return
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    original = {each.node: (number, each) for number, each in enumerate(captured.inputs)}
    written = {m.input for m in captured.mutations}
    reads: list[fx.Node] = []
    inputs: list[CapturedInput] = []
    for node in _read_from_outside(ops, inside):
        if node.op == "get_attr":
            known[node] = graph.node_copy(node)
            continue
        known[node] = graph.placeholder(node.name)
        known[node].meta = dict(node.meta)
        number, described = original.get(node, (None, None))
        if described is None:
            inputs.append(_input(known[node], node))
        else:
            kind = "input" if number in written and described.kind != "size" else described.kind
            inputs.append(replace(described, node=known[node], kind=kind))
        if is_tensor(node):
            reads.append(node)
    for node in ops:
        known[node] = graph.node_copy(node, known.__getitem__)
    graph.output([known[n] for n in makes])
    module = fx.GraphModule(captured.module, graph)
    yield Piece(_captured(module, inputs, [known[n] for n in makes], captured.symbols), tuple(reads), makes)


def _is_read_outside(node: fx.Node, inside: set[fx.Node]) -> bool:
    return any(user not in inside and user.op != "output" for user in node.users)


def _read_from_outside(ops: Iterable[fx.Node], inside: set[fx.Node]) -> Iterator[fx.Node]:
    yield from dict.fromkeys(n for op in ops for n in op.all_input_nodes if n not in inside)


def _captured(
    module: fx.GraphModule, inputs: Sequence[CapturedInput], results: Iterable[Any], symbols: Any
) -> Captured:
    results = tuple(results)
    return Captured(module, tuple(inputs), results, (False,) * len(results), (), (), tuple(symbols))


def _input(placeholder: fx.Node, node: fx.Node) -> CapturedInput:
    """``placeholder`` as an input that stands for ``node``: a contiguous tensor, or a size."""
    shown = node.meta.get("val")
    if isinstance(shown, torch.Tensor):
        placeholder.meta["val"] = torch.empty_like(shown, memory_format=torch.contiguous_format)
        return CapturedInput(node.name, "input", placeholder)
    if isinstance(shown, (int, torch.SymInt)):
        return CapturedInput(node.name, "size", placeholder, size=to_size(shown))
    raise UnsupportedError(f"{node.name} is a {type(shown).__name__}; tensors and sizes pass between calls")
