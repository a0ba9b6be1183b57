"""What is written through a view and read through the same view, in a functional graph: the view of the tensor with the
new elements in it is what was written.

Functionalising leaves this behind where a tensor is laid out in some order of its dimensions and then filled:
``as_strided(as_strided_scatter(empty, written, size, stride), size, stride)``. torch 2.11's FlexAttention ends so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten


def read_what_was_written(graph: fx.Graph) -> None:
    """Replace such views by what was written, which is then laid out as they are."""
    for node in graph.nodes:
        if node.target is not aten.as_strided.default:
            continue
        source = node.args[0]
        if isinstance(source, fx.Node) and source.target is aten.as_strided_scatter.default:
            written = source.args[1]
            if isinstance(written, fx.Node) and _view(node, 1) == _view(source, 2):
                written.meta = {**written.meta, "val": node.meta["val"]}
                node.replace_all_uses_with(written)


def _view(node: fx.Node, first: int) -> list[Any]:
    """The sizes, strides and offset among the arguments of ``node``, of which the sizes are number ``first``."""
    size, stride, *offset = node.args[first:]
    assert isinstance(size, (list, tuple)) and isinstance(stride, (list, tuple))
    return [list(map(_number, size)), list(map(_number, stride)), [_number(n) for n in offset if n is not None] or [0]]


def _number(value: Any) -> Any:
    """A size, or the expression of a symbolic one."""
    value = value.meta["val"] if isinstance(value, fx.Node) else value
    return value.node.expr if isinstance(value, torch.SymInt) else value
