"""Capture: an FX graph and its fake inputs become ``Captured``. The doors differ in what they know of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from rooftile.errors import UnsupportedError
from rooftile.frontend.aliasing import resolve_outputs
from rooftile.frontend.captured import Captured, CapturedInput, InputKind, SymbolSource
from rooftile.frontend.definitions import write_out_definitions
from rooftile.frontend.nodes import tensors_of
from rooftile.frontend.sizes import to_size, to_sizes
from rooftile.frontend.trace import functional_trace
from rooftile.ir.expr import Size, Symbol, size_symbols, terms_of


def capture(
    module: fx.GraphModule,
    fakes: Sequence[Any],
    fake_mode: FakeTensorMode,
    names: Sequence[str],
    kinds: Sequence[InputKind],
    values: Sequence[torch.Tensor | None] | None = None,
) -> Captured:
    """Trace ``module`` over ``fakes`` (one per placeholder) and describe what came out.

    Raises:
        UnsupportedError: a size that depends on data, a metadata mutation, an output that is neither tensor nor size,
            an input of a subclass of tensors that computes ops in its own way.
    """
    for name, fake in zip(names, fakes, strict=True):
        _require_plain(name, fake)
    trace = functional_trace(module, fakes, fake_mode)
    write_out_definitions(trace.module)
    graph = trace.module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    wanting = {n for n, fake in zip(placeholders, fakes, strict=True) if getattr(fake, "requires_grad", False)}
    flows = _gradient_flow(graph.nodes, wanting)
    found = resolve_outputs(trace, placeholders, flows)
    graph.output_node().args = (list(found.results),)
    graph.eliminate_dead_code()
    trace.module.recompile()
    bound = values or [None] * len(placeholders)
    inputs = tuple(
        replace(_input(node, name, kind, value), requires_grad=node in wanting)
        for node, name, kind, value in zip(placeholders, names, kinds, bound, strict=True)
    )
    return Captured(
        module=trace.module,
        inputs=inputs,
        results=found.results,
        results_require_grad=tuple(node in flows for node in found.results),
        outputs=found.outputs,
        mutations=found.mutations,
        symbols=_symbol_sources(inputs, graph.nodes),
    )


def _require_plain(name: str, fake: Any) -> None:
    if isinstance(fake, torch.Tensor) and not isinstance(fake, FakeTensor):
        raise UnsupportedError(
            f"input {name!r} is a {type(fake).__name__}, which computes ops in its own way",
            fix="give the model plain tensors, or compile what the class computes with them",
        )


def _input(node: fx.Node, name: str, kind: InputKind, value: torch.Tensor | None) -> CapturedInput:
    shown = node.meta.get("val")
    described = CapturedInput(name, kind, node, value=value)
    if isinstance(shown, torch.Tensor):
        return described
    if isinstance(shown, (int, torch.SymInt)):
        return replace(described, kind="size", size=to_size(shown))
    raise UnsupportedError(f"input {name!r} is a {type(shown).__name__}; tensors and integers are what can be compiled")


def _gradient_flow(nodes: Iterable[fx.Node], wanting: set[fx.Node]) -> set[fx.Node]:
    """The nodes that autograd would make require a gradient, from the inputs that do, where recording is enabled."""
    enabled = torch.is_grad_enabled()
    found = set(wanting)
    for node in nodes:
        if node.target is torch._C._set_grad_enabled:
            enabled = bool(node.args[0])
        elif enabled and _carries_gradient(node) and any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def _carries_gradient(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target is torch.ops.aten.detach.default or _takes_a_shape(node.target):
        return False
    return any(t.is_floating_point() or t.is_complex() for t in tensors_of(node))


def _takes_a_shape(target: Any) -> bool:
    """Whether an op makes a tensor of the shape of another, and reads none of its elements."""
    name = target._schema.name if isinstance(target, OpOverload) else ""
    return name.startswith("aten::new_") or (name.startswith("aten::") and name.endswith("_like"))


def _symbol_sources(inputs: Sequence[CapturedInput], nodes: Iterable[fx.Node]) -> tuple[SymbolSource, ...]:
    """Every symbol of the graph with the argument to read it from: integer arguments first, then sizes of tensors."""
    found: dict[str, SymbolSource] = {}
    for number, described in enumerate(inputs):
        if described.kind == "size":
            _note(found, described.size, number, None)
    for number, described in enumerate(inputs):
        if described.kind != "size":
            for dim, size in enumerate(to_sizes(described.node.meta["val"].shape)):
                _note(found, size, number, dim)
    for node in nodes:
        for tensor in tensors_of(node):
            _require_bound(tensor, node, found)
    return tuple(found.values())


def _note(found: dict[str, SymbolSource], size: Size | None, number: int, dim: int | None) -> None:
    terms = dict(terms_of(size or 0))
    plus = terms.pop((), 0)
    if len(terms) == 1:
        ((factors, times),) = terms.items()
        if len(factors) == 1 and isinstance(factors[0], Symbol):
            found.setdefault(factors[0].name, SymbolSource(factors[0], number, dim, times, plus))


def _require_bound(tensor: torch.Tensor, node: fx.Node, found: dict[str, SymbolSource]) -> None:
    for size in to_sizes(tensor.shape):
        for symbol in size_symbols(size):
            if symbol.name not in found:
                raise UnsupportedError(f"the size {symbol.name} of {node.name} is not the size of any input")
