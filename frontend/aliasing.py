"""Which outputs share memory with an input or with each other, read off the functional graph.

In a functional trace a view is a chain of view ops that ends at the value whose memory it shows. So the value at the
end of the chain (the *base*) tells everything: an input, the new value of a written input, or a value that several
outputs show.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from rooftile.errors import UnsupportedError
from rooftile.frontend.captured import FromInput, FromResult, Mutation, Output, Plain, ViewOf
from rooftile.frontend.nodes import is_tensor
from rooftile.frontend.sizes import to_size, to_sizes, to_strides
from rooftile.frontend.trace import Trace, fake_mode_of


@dataclass(frozen=True)
class Outputs:
    """What the graph must compute (``results``), and how outputs and written inputs follow from that."""

    results: tuple[fx.Node, ...]
    outputs: tuple[Output, ...]
    mutations: tuple[Mutation, ...]


def is_view(target: Any) -> bool:
    """Whether an ATen op returns views of its first operand."""
    if not isinstance(target, OpOverload):
        return False
    returns = target._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def base_of(node: fx.Node) -> fx.Node:
    """The node whose memory ``node`` shows: itself, unless it is made by view ops.

    A view that reads the memory in another way (as another dtype, conjugated, negated) counts as a value of its own.
    """
    while (source := _viewed(node)) is not None:
        node = source
    return node


def _viewed(node: fx.Node) -> fx.Node | None:
    """The node of whose memory ``node`` is a view, read in the same way; None where it is none."""
    source = node.args[0] if node.op == "call_function" and node.args else None
    if not isinstance(source, fx.Node):
        return None
    is_item = node.target is operator.getitem and is_view(source.target)
    return source if is_item or (is_view(node.target) and _reading(node) == _reading(source)) else None


def _reading(node: fx.Node) -> tuple[torch.dtype, bool, bool]:
    """How the tensor of a node (the first of several, which are alike) is read from its memory."""
    shown = node.meta["val"]
    tensor = shown[0] if isinstance(shown, (list, tuple)) else shown
    return tensor.dtype, tensor.is_conj(), tensor.is_neg()


def resolve_outputs(trace: Trace, placeholders: Sequence[fx.Node], tracked: Container[fx.Node]) -> Outputs:
    """Sort the outputs of a trace into results and views of results or inputs; gradients flow through ``tracked``.

    Raises:
        UnsupportedError: an output is a view of a written input whose layout the new value does not have.
    """
    (returned,) = trace.module.graph.output_node().args
    assert isinstance(returned, (list, tuple))
    updated, user_outputs = returned[: len(trace.mutated)], returned[len(trace.mutated) :]
    resolver = _Resolver(placeholders, user_outputs, tracked)
    mutations = []
    for mutated, value in zip(trace.mutated, updated, strict=True):
        resolver.written[base_of(value)] = (mutated.index, value)
        mutations.append(Mutation(mutated.index, resolver.result(value), mutated.tracked))
    outputs = tuple(map(resolver.output, user_outputs, trace.strides))
    return Outputs(tuple(resolver.results), outputs, tuple(mutations))


class _Resolver:
    """Numbers the results as outputs ask for them."""

    def __init__(self, placeholders: Sequence[fx.Node], outputs: Sequence[Any], tracked: Container[fx.Node]) -> None:
        self._tracked = tracked
        self._inputs = {node: number for number, node in enumerate(placeholders)}
        self._placeholders = placeholders
        self._shown = Counter(base_of(o) for o in dict.fromkeys(outputs) if is_tensor(o))
        self.written: dict[fx.Node, tuple[int, fx.Node]] = {}  # an input and its new value, by the memory of that
        self.results: list[fx.Node] = []

    def result(self, node: fx.Node) -> int:
        """The number of ``node`` among the results."""
        if node not in self.results:
            self.results.append(node)
        return self.results.index(node)

    def output(self, value: Any, strides: Sequence[Any] | None) -> Output:
        """How the caller gets ``value``, a tensor with ``strides`` if it is one."""
        if not is_tensor(value) or strides is None:
            return _plain(value)
        base = base_of(value)
        if base in self.written:
            return self._of_input(value, *self.written[base])
        if base in self._inputs:
            return self._of_input(value, self._inputs[base], base)
        if self._shown[base] == 1:
            return FromResult(self.result(value), to_strides(strides))
        shared = FromResult(self.result(base), _strides(base))
        return shared if value is base else self._view(value, value.meta["val"], base.meta["val"], shared)

    def _of_input(self, value: fx.Node, number: int, now: fx.Node) -> Output:
        """``value``, which shows the memory of ``now``: of an input, or of what is to be written over it."""
        if value is now:
            return FromInput(number)
        shown, written, there = value.meta["val"], now.meta["val"], self._placeholders[number].meta["val"]
        if to_strides(written.stride()) != to_strides(there.stride()):
            shown, written = _shown_of(there, value, now), there
        return self._view(value, shown, written, FromInput(number))

    def _view(self, value: fx.Node, shown: torch.Tensor, base: torch.Tensor, found: FromResult | FromInput) -> ViewOf:
        shape, strides = to_sizes(shown.shape), to_strides(shown.stride())
        offset = to_size(shown.storage_offset() - base.storage_offset())
        return ViewOf(found, shape, strides, offset, value in self._tracked, _is_detached(value))


def _is_detached(node: fx.Node) -> bool:
    """Whether ``detach`` is among the view ops that make ``node``."""
    while (source := _viewed(node)) is not None:
        if node.target is torch.ops.aten.detach.default:
            return True
        node = source
    return False


def _shown_of(there: torch.Tensor, value: fx.Node, now: fx.Node) -> torch.Tensor:
    """What ``value``, a view of ``now``, shows once ``now`` has been written to ``there``, which lies otherwise.

    Raises:
        UnsupportedError: ``value`` is not made of ``now`` itself, or cannot be made of something that lies so.
    """
    calls, mode = list[fx.Node](), fake_mode_of(now)
    node = value
    while node is not now and (source := _viewed(node)) is not None:
        calls.insert(0, node)
        node = source
    refused = UnsupportedError(f"output {value.name} is a view of an input whose layout the call changes")
    if node is not now or mode is None:
        raise refused
    shown: Any = there
    with mode:
        for call in calls:
            assert callable(call.target)
            others, named = fx.map_arg((call.args[1:], call.kwargs), lambda n: n.meta["val"])
            try:
                shown = call.target(shown, *others, **named)
            except RuntimeError as error:
                raise refused from error
    assert isinstance(shown, torch.Tensor)
    return shown


def _strides(node: fx.Node) -> tuple[Any, ...]:
    return to_strides(node.meta["val"].stride())


def _plain(value: Any) -> Plain:
    if isinstance(value, fx.Node):
        value = value.meta["val"]
    if isinstance(value, torch.SymInt):
        return Plain(to_size(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return Plain(value)
    raise UnsupportedError(f"the model returns {value!r}, which is neither a tensor nor a size nor a constant")
