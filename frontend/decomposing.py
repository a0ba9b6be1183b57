"""torch's own decomposition of an ATen call, as calls that may have rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from rooftile.frontend.trace import UNTRACED, fake_mode_of, trace_decomposition


@dataclass(frozen=True)
class Parts:
    """A call taken apart: ``inputs`` stand for the ``outer`` nodes; ``calls`` compute ``result``, a node or several."""

    inputs: tuple[fx.Node, ...]
    outer: tuple[fx.Node, ...]
    calls: tuple[fx.Node, ...]
    result: Any


def decomposed(node: fx.Node) -> Parts | None:
    """The decomposition that torch has for the call ``node``; None where it has none, or where it would not help."""
    function = _decomposition(node.target)
    mode = fake_mode_of(node)
    if function is None or mode is None:
        return None
    outer = tuple(dict.fromkeys(node.all_input_nodes))
    try:
        traced = trace_decomposition(_with_inputs(function, node, outer), [n.meta["val"] for n in outer], mode)
    except UNTRACED:
        return None  # not every decomposition accepts every form of its op
    nodes = list(traced.graph.nodes)
    inputs = tuple(n for n in nodes if n.op == "placeholder")
    calls = tuple(n for n in nodes if n.op == "call_function")
    if len(inputs) + len(calls) + 1 != len(nodes) or any(n.target is node.target for n in calls):
        return None
    (result,) = traced.graph.output_node().args
    return Parts(inputs, outer, calls, result)


def _decomposition(target: Any) -> Callable[..., Any] | None:
    if not isinstance(target, OpOverload) or target._schema.is_mutable:
        return None
    if target in decomposition_table:
        return decomposition_table[target]
    return target.decompose if target._can_decompose() else None


def _with_inputs(function: Callable[..., Any], node: fx.Node, outer: tuple[fx.Node, ...]) -> Callable[..., Any]:
    """``function`` applied to the node's arguments, as a function of its tensors and symbolic sizes alone."""

    def run(*tensors: Any) -> Any:
        known = dict(zip(outer, tensors, strict=True))

        def fill(argument: Any) -> Any:
            return known[argument] if isinstance(argument, fx.Node) else argument

        return function(*tree_map(fill, tuple(node.args)), **tree_map(fill, dict(node.kwargs)))

    return run
