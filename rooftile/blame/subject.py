"""What is looked at: a graph with its inputs and what eager makes of them; from a model, or from a dump on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import fx

from rooftile.accuracy import truth
from rooftile.calling import CompiledFunction
from rooftile.dump import imported_files
from rooftile.errors import UnsupportedError, UserError
from rooftile.frontend.captured import Captured
from rooftile.frontend.dynamo import capture_dynamo, looked_at_anew
from rooftile.frontend.importer import import_captured
from rooftile.frontend.provenance import loc_of
from rooftile.ir.core import Graph, Loc
from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_file
from rooftile.ir.substitution import evaluate as number
from rooftile.reproduce import random_inputs

Watch = Callable[[str, Loc, Sequence[Any], Sequence[torch.Tensor]], None]
_SEED = 0


@dataclass(frozen=True)
class Subject:
    """An imported graph, the tensors and sizes of a call, and the captured function that eager runs.

    Without ``captured``, as for IR from disk, the graph evaluated in its own dtypes stands for eager.
    """

    name: str
    graph: Graph
    tensors: tuple[torch.Tensor, ...]
    sizes: Mapping[str, int]
    captured: Captured | None = None
    bound: int = field(default=0)  # how many of the tensors, the last ones, the captured function holds itself

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return next((t.device for t in self.tensors if t.device.type != "cpu"), torch.device("cpu"))

    @cached_property
    def eager(self) -> list[torch.Tensor]:
        """Eager's results."""
        return self.watched(None)

    @cached_property
    def exact(self) -> list[torch.Tensor]:
        """The results with every float op in float64."""
        with seeded():
            return truth(self.graph, self.tensors, self.sizes)

    def watched(self, watch: Watch | None) -> list[torch.Tensor]:
        """Eager's results; ``watch`` is told of every op: its name, its place, its operands and its results."""
        with torch.no_grad(), seeded():
            if self.captured is None:
                return self._evaluated(watch)
            runner = _Watched(self.captured.module, watch)
            return list(runner.run(*self._arguments(self.captured)))

    def _evaluated(self, watch: Watch | None) -> list[torch.Tensor]:
        observer = None if watch is None else (lambda op, xs, ys: watch(op_text(op), op.loc, xs, ys))
        return evaluate(self.graph, self.tensors, self.sizes, observer=observer)

    def _arguments(self, captured: Captured) -> Iterator[Any]:
        tensors = iter(self.tensors[: len(self.tensors) - self.bound])
        for described in captured.inputs:
            if described.kind == "size":
                assert described.size is not None
                yield number(described.size, self.sizes)
            else:
                yield next(tensors)


@contextmanager
def seeded() -> Iterator[None]:
    """``with seeded():`` random numbers are the same each time, and the process's own are left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


def op_text(op: Any) -> str:
    """An op as a user would name it: its function, or the op itself."""
    return str(op.attrs.get("target") or op.attrs.get("fn") or op.name)


class _Watched(fx.Interpreter):
    """Runs a captured function op by op."""

    def __init__(self, module: fx.GraphModule, watch: Watch | None) -> None:
        super().__init__(module)
        self._watch = watch

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:  # what is run here is the model in eager
            raise UserError(
                f"{n.target} raised {type(error).__name__} in eager: {error}", where=loc_of(n).source
            ) from error
        if self._watch is not None and n.op == "call_function":
            given, named = self.fetch_args_kwargs_from_env(n)
            results = [r for r in (result if isinstance(result, (list, tuple)) else [result]) if _is_tensor(r)]
            self._watch(str(n.target), loc_of(n), [*_leaves(given), *_leaves(named)], results)
        return result


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _leaves(arguments: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(arguments)


def model_subjects(
    model: Callable[..., Any], inputs: Sequence[Any], dynamic: bool | None = None
) -> tuple[list[Subject], int]:
    """One subject for each graph of ``model`` that a call with ``inputs`` reaches, and how many cannot be imported.

    Raises:
        RooftileError: whatever capturing the model raises.
    """
    found: list[Subject] = []
    uncompiled = 0

    def backend(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        nonlocal uncompiled
        try:
            captured = capture_dynamo(module, example_inputs)
            return CompiledFunction(captured, _Recorder(captured, found), module.forward)
        except UnsupportedError:
            uncompiled += 1
            return module.forward

    with torch.no_grad(), looked_at_anew():
        torch.compile(model, backend=backend, dynamic=dynamic)(*inputs)
    return found, uncompiled


class _Recorder:
    """Stands for a program: keeps what the first call brings, and answers as eager does."""

    def __init__(self, captured: Captured, found: list[Subject]) -> None:
        self._captured, self._found = captured, found
        self._imported = import_captured(captured)

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        written = bool(self._captured.mutations)
        kept = [t.detach().clone() if written else t.detach() for t in tensors]
        constants = self._imported.constants
        name = f"graph {len(self._found) + 1}" if self._found else "graph"
        found = Subject(
            name, self._imported.graph, (*kept, *constants), dict(sizes), self._captured, bound=len(constants)
        )
        self._found.append(found)
        return found.eager


def dump_subjects(path: Path, device: torch.device, seed: int = 0) -> list[Subject]:
    """The imported graphs of a dump (its further graphs included), or the graph in a file of IR, on random inputs.

    Raises:
        OptionError: there is no IR at ``path``.
        ParseError: the text is no graph.
    """
    return [_from_text(file, device, seed) for file in imported_files(path)]


def _from_text(file: Path, device: torch.device, seed: int) -> Subject:
    graph = parse_file(file)
    tensors, sizes = random_inputs(graph, device, seed)
    name = file.parent.name if file.parent.name.startswith("graph-") else graph.name
    return Subject(name, graph, tuple(tensors), sizes)
