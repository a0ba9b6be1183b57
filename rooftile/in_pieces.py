"""A graph that calls functions of functions which torch runs itself: the pieces between the calls are programs, and so
is what the calls call, where it can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.utils._pytree import tree_map

from rooftile.compilation import Runnable
from rooftile.errors import UnsupportedError
from rooftile.frontend.captured import Captured
from rooftile.frontend.cutting import FunctionCall, Piece, calls_of, captured_function, cut
from rooftile.frontend.sizes import to_size
from rooftile.ir.expr import Size
from rooftile.ir.substitution import evaluate

Values: TypeAlias = MutableMapping[fx.Node, torch.Tensor]
Compile: TypeAlias = Callable[[Captured], Runnable]


@dataclass(frozen=True)
class PieceStep:
    """A piece, compiled."""

    piece: Piece
    program: Runnable

    def __call__(self, values: Values, sizes: Mapping[str, int]) -> None:
        """Compute what the piece makes."""
        made = self.program([values[n] for n in self.piece.reads], sizes)
        values.update(zip(self.piece.makes, made, strict=True))


@dataclass(frozen=True)
class CallStep:
    """A call that torch runs. Its functions are compiled (``programs``), or those of the graph; ``numbers`` are the
    sizes among its arguments."""

    call: FunctionCall
    programs: Mapping[fx.Node, Runnable]
    numbers: Mapping[fx.Node, Size]

    def __call__(self, values: Values, sizes: Mapping[str, int]) -> None:
        """Make the call. What it returns is contiguous, and shares no memory with what it was given."""
        node = self.call.node
        given: list[torch.Tensor] = []

        def fill(argument: Any) -> Any:
            if not isinstance(argument, fx.Node):
                return argument
            if argument in self.call.functions:
                return self._function(argument, sizes)
            if argument in self.numbers:
                return evaluate(self.numbers[argument], sizes)
            given.append(values[argument])
            return values[argument]

        returned = node.target(*tree_map(fill, tuple(node.args)), **tree_map(fill, dict(node.kwargs)))  # type: ignore[operator]
        memory = {x.untyped_storage().data_ptr() for x in given}
        for value, number in self.call.items.items():
            tensor = returned[number].contiguous()
            values[value] = tensor.clone() if tensor.untyped_storage().data_ptr() in memory else tensor

    def _function(self, node: fx.Node, sizes: Mapping[str, int]) -> Callable[..., Any]:
        function = self.call.functions[node]
        program = self.programs.get(node)
        if program is None:
            return function
        (returned,) = function.graph.output_node().args
        results: list[Any] = list(dict.fromkeys(n for n in _leaves(returned)))

        def call(*arguments: Any) -> Any:
            made = program([a.contiguous() for a in arguments if isinstance(a, torch.Tensor)], sizes)
            by_node = dict(zip(results, made, strict=True))
            return tree_map(by_node.__getitem__, returned)

        return call


def _leaves(returned: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    tree_map(found.append, returned)
    return found


@dataclass(frozen=True)
class InPieces:
    """The program that runs the steps in order."""

    inputs: tuple[fx.Node, ...]
    results: tuple[fx.Node, ...]
    steps: tuple[PieceStep | CallStep, ...]

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        """The results, as new tensors."""
        values: Values = dict(zip(self.inputs, tensors, strict=True))
        with torch.no_grad():
            for step in self.steps:
                step(values, sizes)
            return [values[n].clone() if n in self.inputs else values[n] for n in self.results]


def in_pieces(captured: Captured, compile: Compile) -> InPieces:
    """The program of a capture with calls in it; ``compile`` makes those of its pieces and of what is called.

    Raises:
        UnsupportedError: see ``cut``, or whatever ``compile`` raises for a piece.
    """
    steps: list[PieceStep | CallStep] = []
    for part in cut(captured):
        if isinstance(part, Piece):
            steps.append(PieceStep(part, compile(part.captured)))
        else:
            programs = {node: _compiled(function, compile) for node, function in part.functions.items()}
            compiled = {node: p for node, p in programs.items() if p is not None}
            shown = {node: node.meta["val"] for node in part.node.all_input_nodes if node not in programs}
            numbers = {node: to_size(n) for node, n in shown.items() if not isinstance(n, torch.Tensor)}
            steps.append(CallStep(part, compiled, numbers))
    inputs = tuple(each.node for each in captured.inputs if each.kind != "size")
    return InPieces(inputs, captured.results, tuple(steps))


def _compiled(function: fx.GraphModule, compile: Compile) -> Runnable | None:
    try:
        captured = captured_function(function)
        return in_pieces(captured, compile) if calls_of(captured) else compile(captured)
    except UnsupportedError:
        return None
