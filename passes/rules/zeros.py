"""Which elements of a matrix are zero, whatever the data: those that a condition on their position leaves out."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.evaluator import evaluate
from rooftile.passes.numbers import number_in
from rooftile.passes.rules.windows import fixed

LARGEST = 1 << 16  # elements of a matrix that is looked at
_POSITIONAL = ("iota", "constant", "expand", "reshape", "permute", "slice", "pointwise", "cast")


def zeros(value: Value, producers: Mapping[Value, Op]) -> torch.Tensor:
    """For each element of a matrix, or of all matrices alike that ``value`` holds, whether it is known to be zero:
    bool[rows, columns]."""
    rows, columns = fixed(value.shape[-2:]) or (0, 0)
    op = producers.get(value)
    if number_in(value, producers.get) == 0:
        return torch.ones(rows, columns, dtype=torch.bool)
    if op is not None and (op.name == "cast" or (op.name == "pointwise" and op.attrs["fn"] == "neg")):
        return zeros(op.inputs[0], producers)
    if op is not None and op.name == "pointwise" and op.attrs["fn"] == "where":
        condition, chosen, otherwise = op.inputs
        if (known := _known(condition, producers)) is not None:
            return torch.where(known, zeros(chosen, producers), zeros(otherwise, producers))
    return torch.zeros(rows, columns, dtype=torch.bool)


def _known(condition: Value, producers: Mapping[Value, Op]) -> torch.Tensor | None:
    """The condition on each position of a matrix, if it depends on nothing else."""
    op, rank = producers.get(condition), condition.type.rank
    if op is not None and op.name == "expand" and op.attrs["dims"] == (rank - 2, rank - 1):
        condition = op.inputs[0]
    sizes = fixed(condition.shape)
    if sizes is None or len(sizes) != 2 or sizes[0] * sizes[1] > LARGEST:
        return None
    cone: dict[Op, None] = {}
    stack = [condition]
    while stack:
        made = producers.get(stack.pop())
        if made is None or made.name not in _POSITIONAL:
            return None
        if made not in cone:
            cone[made] = None
            stack.extend(made.inputs)
    ops = tuple(op for op in dict.fromkeys(producers.values()) if op in cone)
    (found,) = evaluate(Graph("condition", (), ops, (condition,)), [])
    return found
