"""Contractions with an operand that is gathered, evaluated without that: one index after another.

What is read at an index for each of many rows, such as the matrix that belongs to each, would fill a memory by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch

from rooftile.ir.core import Graph, Op, Value, freeze_attrs
from rooftile.ir.expr import axis, symbol_names
from rooftile.ir.optable import Evaluation
from rooftile.ir.reference import contract_reference, gather_reference
from rooftile.ir.substitution import evaluate

LARGE = 2**25  # elements


def late_gathers(graph: Graph, ev: Evaluation) -> dict[Value, Op]:
    """The large gathers of ``graph`` that nothing but contractions read, by their results; each by one index for each
    position of its first axis."""
    users = graph.users()
    found: dict[Value, Op] = {}
    for op in graph.ops:
        if op.name != "gather" or len(op.inputs) != 2 or not op.attrs["axes"] or op.output in graph.outputs:
            continue
        name, size = op.attrs["axes"][0]
        by_row = op.attrs["maps"][1] == (axis(name, size),) and not any(
            name in symbol_names(e) for e in op.attrs["maps"][0]
        )
        large = prod(evaluate(s, ev.bindings) for s in op.output.shape) > LARGE
        if by_row and large and all(_is_read_whole(user, op.output) for user in users.get(op.output, ())):
            found[op.output] = op
    return found


def _is_read_whole(op: Op, value: Value) -> bool:
    """Whether ``op`` is a contraction that reads ``value`` once, row by row of its result."""
    if op.name != "contract" or op.inputs.count(value) != 1:
        return False
    sizes = dict(op.attrs["axes"])
    first, *others = op.attrs["maps"][op.inputs.index(value)]
    name = next((n for n in op.attrs["out"] if first == axis(n, sizes[n])), None)
    return (
        name is not None
        and all(
            entry == axis(name, sizes[name]) or name not in symbol_names(entry) for m in op.attrs["maps"] for entry in m
        )
        and not any(name in symbol_names(entry) for entry in others)
    )


def contracted(op: Op, gathers: Sequence[Op], values: Mapping[Value, torch.Tensor], ev: Evaluation) -> torch.Tensor:
    """The result of the contraction ``op``, of whose operands ``gathers`` give some: for each index that one of them
    reads, the one that reads the fewest, that of its rows; only these rows of the others are gathered."""
    lead = min(gathers, key=lambda gather: len(values[gather.inputs[1]].unique()))
    late = {gather.output: gather for gather in gathers}
    sizes, out = dict(op.attrs["axes"]), op.attrs["out"]
    by = op.attrs["maps"][op.inputs.index(lead.output)][0]
    name = next(n for n in out if by == axis(n, sizes[n]))
    result = torch.empty([evaluate(sizes[n], ev.bindings) for n in out], dtype=ev.dtype(op.output.dtype))
    index = values[lead.inputs[1]]
    for at in index.unique():
        rows = (index == at).nonzero()[:, 0]
        operands = []
        for v, access in zip(op.inputs, op.attrs["maps"], strict=True):
            gather = late.get(v)
            if gather is None:
                operands.append(_rows_of(values[v], access, by, rows))
            else:
                read = values[gather.inputs[1]]
                read = at.reshape(1) if gather is lead else read[rows] if access[0] == by else read
                operands.append(_gathered(gather, read, values, ev))
        maps = tuple((0, *m[1:]) if v is lead.output else m for v, m in zip(op.inputs, op.attrs["maps"], strict=True))
        narrower = _with_axis(op, name, len(rows))
        narrower = replace(narrower, attrs=freeze_attrs({**narrower.attrs, "maps": maps}))
        (part,) = contract_reference(narrower, operands, ev)
        result.index_copy_(out.index(name), rows, part)
    return result


def _gathered(gather: Op, index: torch.Tensor, values: Mapping[Value, torch.Tensor], ev: Evaluation) -> torch.Tensor:
    """What ``gather`` gives where it reads ``index`` instead."""
    narrower = _with_axis(gather, gather.attrs["axes"][0][0], len(index))
    (rows,) = gather_reference(narrower, [values[gather.inputs[0]], index], ev)
    return rows


def _with_axis(op: Op, name: str, size: int) -> Op:
    axes = tuple((n, size if n == name else s) for n, s in op.attrs["axes"])
    return replace(op, attrs=freeze_attrs({**op.attrs, "axes": axes}))


def _rows_of(x: torch.Tensor, access: Sequence[Any], position: Any, rows: torch.Tensor) -> torch.Tensor:
    for dim, entry in enumerate(access):
        if entry == position:
            x = x.index_select(dim, rows)
    return x
