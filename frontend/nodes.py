"""What torch says of the nodes of a traced graph: which tensors they give, and which functions a call is given."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import fx


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a node that gives one tensor."""
    return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor)


def tensors_of(node: fx.Node) -> list[torch.Tensor]:
    """The fake tensors that a node gives, one or several."""
    shown = node.meta.get("val")
    return [s for s in (shown if isinstance(shown, (list, tuple)) else [shown]) if isinstance(s, torch.Tensor)]


def held(node: fx.Node) -> Any:
    """What a ``get_attr`` node names."""
    return attrgetter(str(node.target))(node.graph.owning_module)


def functions_of(call: fx.Node) -> dict[fx.Node, fx.GraphModule]:
    """The functions among what a call is given, by the nodes that name them."""
    named = {node: held(node) for node in call.all_input_nodes if node.op == "get_attr"}
    return {node: function for node, function in named.items() if isinstance(function, fx.GraphModule)}
