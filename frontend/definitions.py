"""Functions of functions that torch defines in ordinary ops, written out: an attention with its ``score_mod`` and
``mask_mod`` becomes products, a mask and a softmax, and a scan its steps.

What the definition does not read, such as the tables of a block mask, is not computed for it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from typing import Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator
from torch.utils._pytree import tree_map

from rooftile.frontend.nodes import functions_of, held
from rooftile.frontend.trace import UNTRACED, definition_of, fake_mode_of, run_graph, trace_decomposition

# A definition that loops in Python is written out if it calls its functions no more often than this.
_MOST_CALLS = 64


class _TooManyCallsError(RuntimeError):
    pass


def write_out_definitions(module: fx.GraphModule) -> None:
    """Replace each call of a function of functions in the traced ``module`` by torch's definition of it, where there is
    one in ordinary ops; the others stay."""
    graph = module.graph
    done: set[fx.Node] = set()
    while found := next((n for n in graph.nodes if _is_call(n) and n not in done), None):
        done.add(found)
        if (traced := _traced(found)) is not None:
            _put_in_place(module, found, *traced)
    if done:
        graph.eliminate_dead_code()
        module.recompile()


def _is_call(node: fx.Node) -> bool:
    return isinstance(node.target, HigherOrderOperator) and definition_of(node.target) is not None


def _traced(node: fx.Node) -> tuple[fx.GraphModule, list[fx.Node]] | None:
    """The definition as a graph, with the nodes that its inputs stand for; None where torch does not trace it."""
    assert isinstance(node.target, HigherOrderOperator)
    definition, mode = definition_of(node.target), fake_mode_of(node)
    functions = functions_of(node)
    outer = [n for n in node.all_input_nodes if n not in functions]
    if definition is None or mode is None:
        return None
    calls = 0

    def counted(function: fx.GraphModule) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > _MOST_CALLS:
                raise _TooManyCallsError
            return run_graph(function, *arguments)

        return call

    def run(*tensors: Any) -> Any:
        known = dict(zip(outer, tensors, strict=True))

        def fill(argument: Any) -> Any:
            if not isinstance(argument, fx.Node):
                return argument
            return known[argument] if argument in known else counted(functions[argument])

        return definition(*tree_map(fill, tuple(node.args)), **tree_map(fill, dict(node.kwargs)))

    try:
        return trace_decomposition(run, [n.meta["val"] for n in outer], mode), outer
    except UNTRACED:  # not every definition covers every form of its op
        return None


def _put_in_place(module: fx.GraphModule, node: fx.Node, traced: fx.GraphModule, outer: list[fx.Node]) -> None:
    """Put the graph of ``traced`` where ``node`` is, which is gone then."""
    inputs = iter(outer)
    made: dict[fx.Node, fx.Node] = {}
    result: Any = None
    with module.graph.inserting_before(node):
        for part in traced.graph.nodes:
            if part.op == "placeholder":
                made[part] = next(inputs)
            elif part.op == "output":
                result = fx.node.map_arg(part.args[0], made.__getitem__)
            else:
                made[part] = _copied(module, part, made, node)
    for user in list(node.users):
        if isinstance(result, fx.Node):
            break
        assert user.target is getitem, user
        user.replace_all_uses_with(result[user.args[1]])
        module.graph.erase_node(user)
    if isinstance(result, fx.Node):
        node.replace_all_uses_with(result)
    module.graph.erase_node(node)


def _copied(module: fx.GraphModule, part: fx.Node, made: dict[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    copy = module.graph.node_copy(part, made.__getitem__)
    if part.op == "get_attr":
        name = f"{node.name}_{part.name}"
        _hold(module, name, held(part))
        copy.target = name
    copy.meta = {**{k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack")}, **part.meta}
    return copy


def _hold(module: fx.GraphModule, name: str, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)
