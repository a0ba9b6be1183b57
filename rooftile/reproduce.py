"""From IR text to a verdict: build the program of a dumped graph, run it on random inputs, compare with float64.

The script in every dump calls this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rooftile.accuracy import Accuracy, promised, truth
from rooftile.codegen.example import example_sizes, largest_safe_index
from rooftile.config import CompileOptions
from rooftile.driver import build_program
from rooftile.ir.core import Graph, Op, TensorType, Value
from rooftile.ir.evaluator import evaluate
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.parser import parse_file
from rooftile.ir.strides import span
from rooftile.ir.substitution import evaluate as number
from rooftile.runtime.arguments import laid_out_copy
from rooftile.runtime.devices import default_device
from rooftile.runtime.plan import strides_in

_OF_POSITIVE = frozenset({"sqrt", "rsqrt", "log", "log2"})


def reproduce(path: Path, target: str | None = None, device: str | None = None, seed: int = 0) -> list[Accuracy]:
    """Build and check the graph in ``path`` and print how each result fares; on the GPU if there is one.

    The graph evaluated in its own dtypes stands for eager.

    Raises:
        ParseError: the file does not hold a graph.
    """
    graph = parse_file(path)
    where = torch.device(device) if device else default_device()
    tensors, sizes = random_inputs(graph, where, seed)
    program = build_program(graph, CompileOptions.from_user(options={"target": target} if target else {}), where)
    ours = program(copies_of_written(graph, tensors), sizes)
    with torch.no_grad(), where:
        eager = evaluate(graph, tensors, sizes)
    found = promised(ours, eager, truth(graph, tensors, sizes))
    for value, accuracy in zip(graph.outputs, found, strict=True):
        print(f"%{value.name}: {accuracy}")
    return found


def copies_of_written(graph: Graph, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors of a call, with copies of those that its program writes over: whoever calls it again, or asks the
    reference, wants them as they were."""
    written = {number for _, number in graph.attrs.get("updates") or ()}
    return [laid_out_copy(tensor) if number in written else tensor for number, tensor in enumerate(tensors)]


def random_inputs(graph: Graph, device: torch.device, seed: int = 0) -> tuple[list[torch.Tensor], dict[str, int]]:
    """Inputs for ``graph``, and the run-time sizes they have: normal floats (positive ones where a root or a logarithm
    is taken of them as they are), coins, and integers that index any dimension."""
    names = {s: s.name for s in graph.size_symbols()}
    sizes = {each.symbol: each.example for each in example_sizes(names, graph.inputs)}
    generator = torch.Generator().manual_seed(seed)
    limit = largest_safe_index(graph.inputs, sizes)
    positive = _positive(graph)
    return [_random(v.type, sizes, limit, generator, device, v in positive) for v in graph.inputs], sizes


def _positive(graph: Graph) -> set[Value]:
    """The inputs that a function of positive numbers is applied to, with nothing but views, casts and sums between."""
    producers = graph.producers()
    stack = [op.inputs[0] for op in graph.ops if op.attrs.get("fn") in _OF_POSITIVE and op.name == "pointwise"]
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        op = producers.get(value)
        if value not in seen and (op is None or op.name == "cast" or GRAPH_OPS[op.name].view or _is_sum(op)):
            stack += op.inputs if op is not None else ()
        seen.add(value)
    return {v for v in graph.inputs if v in seen and v.dtype.kind == "float"}


def _is_sum(op: Op) -> bool:
    return op.name == "pointwise" and op.attrs["fn"] == "add"


def _random(
    type: TensorType,
    sizes: Mapping[str, int],
    limit: int,
    generator: torch.Generator,
    device: torch.device,
    positive: bool,
) -> torch.Tensor:
    shape = tuple(number(s, sizes) for s in type.shape)
    strides = strides_in(type, sizes)
    length = (span(shape, strides),)
    if type.dtype.kind in ("float", "complex"):
        drawn = torch.complex64 if type.dtype.kind == "complex" else torch.float32
        line = torch.randn(length, generator=generator, dtype=drawn).to(type.dtype.torch)
        line = line.abs() if positive else line
    else:
        highest = 1 if type.dtype.kind == "bool" else limit
        line = torch.randint(0, highest + 1, length, generator=generator).to(type.dtype.torch)
    return line.to(device).as_strided(shape, strides)  # moved before: a move makes strided tensors dense
