"""Regions that put elements into an operand, which is written over: their bodies end in a ``scatter``."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Graph, Op, Value, freeze_attrs


def replaced_operands(region: Op) -> dict[Value, Value]:
    """The results of a region that are an operand with some elements replaced, each with that operand."""
    body = region.regions[0]
    outer = dict(zip(body.inputs, region.inputs, strict=False))
    scattered = {op.output: outer[op.inputs[0]] for op in body.ops if op.name == "scatter"}
    return {v: scattered[b] for v, b in zip(region.outputs, body.outputs, strict=True) if b in scattered}


def graph_of(name: str, region: Op, ops: Sequence[Op] | None = None) -> Graph:
    """A graph of a region by itself, or of ``ops`` that do the same. What replaces elements of an input is
    written over it."""
    inputs = region.inputs[: len(region.regions[0].inputs)] if ops is not None else region.inputs
    over = replaced_operands(region)
    updates = tuple((n, inputs.index(over[v])) for n, v in enumerate(region.outputs) if v in over)
    attrs = freeze_attrs({"updates": updates} if updates else {})
    return Graph(name, inputs, (region,) if ops is None else tuple(ops), region.outputs, attrs)
