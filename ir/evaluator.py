"""The reference evaluator: runs a graph on torch tensors by the op tables' references.

It is the meaning of the IR. Every pass is tested by evaluating before and after; with ``promote`` every float op runs
in float64, which gives the reference ``r`` that accuracy is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from rooftile.errors import InputError, InternalError
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import DType
from rooftile.ir.extern import call_extern
from rooftile.ir.gathered import contracted, late_gathers
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.printer import print_op
from rooftile.ir.substitution import evaluate as size_value
from rooftile.ir.tile_evaluator import run_region

Tensors = Sequence[torch.Tensor]
Compute = Callable[[Tensors], Tensors]  # an op's results from its operands
Observer = Callable[[Op, Tensors, Tensors], None]  # told of each op that has run, its operands and its results

_DOUBLE = {"float": torch.float64, "complex": torch.complex128}  # what a kind of dtype is promoted to


@dataclass(frozen=True)
class Evaluation:
    """How a graph is evaluated: the run-time sizes, floats promoted to float64 or not, bodies or kernels of regions;
    ``instead`` computes some ops in another way, ``observer`` is told of each."""

    bindings: Mapping[str, int] = field(default_factory=dict)
    promote: bool = False
    lowered: bool = False
    instead: Mapping[Op, Compute] = field(default_factory=dict)
    observer: Observer | None = None

    def dtype(self, dtype: DType) -> torch.dtype:
        """The torch dtype that stands for ``dtype``."""
        return _DOUBLE.get(dtype.kind, dtype.torch) if self.promote else dtype.torch


def evaluate(
    graph: Graph,
    inputs: Tensors,
    bindings: Mapping[str, int] | None = None,
    promote: bool = False,
    lowered: bool = False,
    instead: Mapping[Op, Compute] | None = None,
    observer: Observer | None = None,
) -> list[torch.Tensor]:
    """The outputs of a graph-level ``graph``. They may be views of one another or of the inputs.

    Args:
        graph: any graph-level graph; region ops included.
        inputs: one tensor per input, of its dtype (with ``promote``, any float dtype where the input is a float).
        bindings: run-time sizes that the inputs' shapes do not tell.
        promote: run every float op in float64; casts between floats then change nothing.
        lowered: run a region's kernel, where it has one, instead of its body.
        instead: what computes an op, in place of its reference.
        observer: told of every op in turn, those in the bodies of regions included.

    Raises:
        InputError: a tensor that does not fit its input.
    """
    sizes = bind_sizes(graph.inputs, [tuple(x.shape) for x in inputs], bindings)
    ev = Evaluation(sizes, promote, lowered, instead or {}, observer)
    with torch.no_grad(), torch.device(inputs[0].device if inputs else "cpu"):
        return _run(graph, [_received(v, x, ev) for v, x in zip(graph.inputs, inputs, strict=True)], ev)


def _received(value: Value, x: torch.Tensor, ev: Evaluation) -> torch.Tensor:
    wanted = ev.dtype(value.dtype)
    if x.dtype == wanted:
        return x
    if ev.promote and (x.is_complex() if wanted.is_complex else wanted.is_floating_point and x.is_floating_point()):
        return x.to(wanted)
    raise InputError(f"input {value.name!r} is {x.dtype}, which must be {value.dtype.torch}")


def _run(graph: Graph, inputs: Tensors, ev: Evaluation) -> list[torch.Tensor]:
    values = dict(zip(graph.inputs, inputs, strict=True))
    last_use = {v: n for n, op in enumerate(graph.ops) for v in op.inputs}
    kept = set(graph.outputs)
    late = late_gathers(graph, ev) if ev.observer is None and not ev.instead else {}
    kept.update(v for op in late.values() for v in op.inputs)
    for number, op in enumerate(graph.ops):
        if op in late.values():
            continue
        gathers = [late[v] for v in op.inputs if v in late]
        if gathers:
            results: Tensors = (contracted(op, gathers, values, ev),)
        else:
            results = _evaluate_op(op, [values[v] for v in op.inputs], ev)
        _check(op, results, ev)
        if ev.observer is not None:
            ev.observer(op, [values[v] for v in op.inputs], results)
        values.update(zip(op.outputs, results, strict=True))
        for v in {*op.inputs, *op.outputs}:
            if v not in kept and v not in late and last_use.get(v, number) == number:
                del values[v]
    return [values[v] for v in graph.outputs]


def _check(op: Op, results: Tensors, ev: Evaluation) -> None:
    """What came out must have the types that inference promised."""
    for value, x in zip(op.outputs, results, strict=True):
        shape = tuple(size_value(s, ev.bindings) for s in value.shape)
        if tuple(x.shape) != shape or x.dtype != ev.dtype(value.dtype):
            what = f"{op.name} gave {x.dtype} {tuple(x.shape)} for %{value.name}, typed {value.dtype} {shape}"
            raise InternalError(what, op=print_op(op), where=op.loc.source)


def _evaluate_op(op: Op, inputs: Tensors, ev: Evaluation) -> Tensors:
    if op in ev.instead:
        return ev.instead[op](inputs)
    if op.name == "region":
        if ev.lowered and len(op.regions) > 1:
            return run_region(op, inputs, ev.bindings)
        body = op.regions[0]
        return _run(body, inputs[: len(body.inputs)], ev)
    if op.name == "extern":
        returned = call_extern(op, inputs, ev.bindings)
        return [x.to(ev.dtype(v.dtype)) for v, x in zip(op.outputs, returned, strict=True)]
    reference = GRAPH_OPS[op.name].reference
    assert reference is not None, f"{op.name} has no reference"
    return reference(op, inputs, ev)
