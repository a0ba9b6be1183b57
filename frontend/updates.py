"""Inputs that a call writes to: which results are written over which of them, and which ATen calls do no more than
replace elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from rooftile.frontend.aliasing import is_view
from rooftile.frontend.captured import Captured
from rooftile.frontend.sizes import to_sizes, to_strides
from rooftile.ir.extern import UPDATES
from rooftile.ir.strides import is_contiguous


@dataclass(frozen=True)
class Chain:
    """``calls``, in order, each of which replaces elements of what the one before gives; the first those of ``over``,
    the input that the last one's result is written over.

    ``alone`` says that nobody else reads what a call replaces elements of: all of them can write into the input.
    """

    over: fx.Node
    calls: tuple[fx.Node, ...]
    alone: bool


def updates(captured: Captured) -> tuple[tuple[int, int], ...]:
    """Pairs of an output and the graph input that it is to be written over. Where autograd records, it wants old and
    new values side by side."""
    if any(captured.results_require_grad):
        return ()
    tensors = [number for number, each in enumerate(captured.inputs) if each.kind != "size"]
    return tuple((m.result, tensors.index(m.input)) for m in captured.mutations)


def chains(captured: Captured) -> Iterator[Chain]:
    """The inputs of which nothing but elements are replaced. As ops of the graph, the calls that replace slices would
    make all of such an input anew."""
    inputs = [each.node for each in captured.inputs if each.kind != "size"]
    pairs = updates(captured)
    for output, number in pairs:
        node, calls = captured.results[output], list[fx.Node]()
        while node.op == "call_function" and str(node.target) in UPDATES and isinstance(node.args[0], fx.Node):
            calls.insert(0, node)
            node = node.args[0]
        if calls and node is inputs[number]:
            once = [o for o, _ in pairs].count(output) == 1
            unread = all(map(_is_wanted_by, (node, *calls[:-1]), calls))
            yield Chain(node, tuple(calls), once and unread and (len(calls) == 1 or _is_dense(node)))


def _is_wanted_by(node: fx.Node, call: fx.Node) -> bool:
    """Whether nothing but the first operand of ``call`` takes the elements of ``node``."""
    again = node in call.args[1:] or node in call.kwargs.values()
    return not again and all(user is call or _is_form(user, node) for user in node.users)


def _is_form(user: fx.Node, node: fx.Node) -> bool:
    """Whether ``user`` takes no more than the shape of ``node``: something is copied into the form of a view of it."""
    if user.target is torch.ops.aten.copy.default:
        return user.args[0] is node and user.args[1] is not node
    return is_view(user.target) and all(_is_form(u, user) for u in user.users)


def _is_dense(node: fx.Node) -> bool:
    shown = node.meta["val"]
    return is_contiguous(to_sizes(shown.shape), to_strides(shown.stride()))
