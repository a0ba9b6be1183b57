"""Which calls of functions of functions a graph cannot be captured with."""

from __future__ import annotations

import operator
from collections.abc import Container, Iterator

from torch import fx
from torch._ops import HigherOrderOperator, OpOverload

from rooftile.errors import UnsupportedError
from rooftile.frontend.nodes import functions_of
from rooftile.frontend.provenance import loc_of

_WRITING = {operator.setitem} | {
    getattr(operator, f"i{name}")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul")
}

_PYTHONS = (operator.and_, operator.or_, operator.not_, operator.is_)  # named so since these are words of Python


def calls_in(module: fx.GraphModule) -> Iterator[fx.Node]:
    """The calls of functions in a graph and in those that it calls."""
    yield from (node for node in _nodes(module) if node.op == "call_function")


def refuse_calls(module: fx.GraphModule, traced: Container[str], inlined: Container[str]) -> None:
    """Refuse calls of functions of functions but those in ``traced``, and such calls of a function that writes to
    tensors, at some of which torch's tracing crashes; one that is put in the call's place (``inlined``) may.

    Raises:
        UnsupportedError: with the first one and its line.
    """
    for node in calls_in(module):
        if not isinstance(node.target, HigherOrderOperator):
            continue
        name, where = node.target.name(), loc_of(node).source
        if name not in traced:
            raise UnsupportedError(f"the model calls {name}, a function of functions", where=where)
        if name not in inlined and any(
            _writes(n) for function in functions_of(node).values() for n in _nodes(function)
        ):
            raise UnsupportedError(f"the model calls {name} with a function that writes to a tensor", where=where)


def _nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    for graph in (each.graph for each in module.modules() if isinstance(each, fx.GraphModule)):
        yield from graph.nodes


def _writes(node: fx.Node) -> bool:
    """Whether the call may write to a tensor: by its schema, or by torch's naming."""
    if node.op not in ("call_function", "call_method"):
        return False
    if isinstance(node.target, OpOverload):
        return node.target._schema.is_mutable
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    named = name.endswith("_") and not name.endswith("__") and node.target not in _PYTHONS
    return named or node.target in _WRITING or "out" in node.kwargs or bool(node.kwargs.get("inplace"))
