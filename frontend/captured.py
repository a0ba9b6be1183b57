"""What a capture is: a functional ATen graph, what its inputs are, and how its results become the user's outputs.

Both doors (a Dynamo backend, ``torch.export``) end in ``Captured``, at one level: *pre-dispatch* ATen, where
``linear``, ``softmax``, ``layer_norm``, ``silu`` and SDPA are still whole, made functional, with symbolic sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import fx

from rooftile.ir.expr import Size, Symbol

InputKind: TypeAlias = Literal["parameter", "buffer", "input", "size"]


@dataclass(frozen=True)
class CapturedInput:
    """One positional argument of the captured function, in calling order.

    ``kind`` is ``"size"`` for an integer (``size`` says what it is, usually a symbol); the others are tensors. ``name``
    is the model's own name for it (``layers.0.q_proj.weight``). ``value`` is the tensor that a frozen program binds:
    parameters, buffers and constants of an exported program; None where the caller passes it.
    """

    name: str
    kind: InputKind
    node: fx.Node
    size: Size | None = None
    value: torch.Tensor | None = None
    requires_grad: bool = False


@dataclass(frozen=True)
class Mutation:
    """Input number ``input`` is to be overwritten with result number ``result``, after everything has been computed.

    ``tracked`` says that autograd is to see the write.
    """

    input: int
    result: int
    tracked: bool


@dataclass(frozen=True)
class FromResult:
    """The output is result number ``result``, laid out with ``strides`` (in elements)."""

    result: int
    strides: tuple[Size, ...]


@dataclass(frozen=True)
class FromInput:
    """The output is input number ``input`` itself."""

    input: int


@dataclass(frozen=True)
class ViewOf:
    """The output shares the memory of ``base``: ``as_strided``, ``offset`` elements from the start of ``base``.

    ``tracked`` says that gradients flow through the view: not where they are not recorded. There a view of what wants a
    gradient says that it does too, unless it is ``detached``.
    """

    base: FromResult | FromInput
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size
    tracked: bool
    detached: bool


@dataclass(frozen=True)
class Plain:
    """The output is no tensor: a size computed from the input sizes, or a constant."""

    value: Size | float | bool | str | None


Output: TypeAlias = FromResult | FromInput | ViewOf | Plain


@dataclass(frozen=True)
class SymbolSource:
    """Where a run-time size comes from: input number ``input`` itself, or its size along ``dim``, which is ``times``
    the symbol, ``plus`` something."""

    symbol: Symbol
    input: int
    dim: int | None
    times: int = 1
    plus: int = 0

    def value(self, arguments: Sequence[Any]) -> int:
        """The symbol's value in a call with these arguments."""
        return self.of(self.read(arguments))

    def read(self, arguments: Sequence[Any]) -> Any:
        """The integer or the dimension among these arguments."""
        return arguments[self.input] if self.dim is None else arguments[self.input].shape[self.dim]

    def of(self, size: int) -> int:
        """The symbol's value where the integer or the dimension is ``size``."""
        return (int(size) - self.plus) // self.times


@dataclass(frozen=True)
class Captured:
    """A captured function. ``module``'s graph returns the results; it also runs as it is, with gradients."""

    module: fx.GraphModule
    inputs: tuple[CapturedInput, ...]
    results: tuple[fx.Node, ...]
    results_require_grad: tuple[bool, ...]
    outputs: tuple[Output, ...]
    mutations: tuple[Mutation, ...]
    symbols: tuple[SymbolSource, ...]

    @property
    def is_random(self) -> bool:
        """Whether running it draws random numbers."""
        graphs = (m.graph for m in self.module.modules() if isinstance(m, fx.GraphModule))
        targets = (node.target for graph in graphs for node in graph.nodes)
        return any(torch.Tag.nondeterministic_seeded in t.tags for t in targets if isinstance(t, torch._ops.OpOverload))
