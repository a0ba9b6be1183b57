"""Pass ``layout``: the order in memory of the buffers between kernels.

A buffer gets the order of dimensions in which its readers' addresses need fewest quotients and remainders: where ``[b,
h, i, d]`` is read as rows ``(b, i)`` of length
``(h, d)``, it is stored as ``[b, i, h, d]`` and the read is contiguous::

    %o : bf16[b=1, h=8, i=128, d=64]   ->   %o : bf16[b=1, h=8, i=128, d=64] strides (65536, 64, 512, 1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import FloorDiv, Mod, Size, atoms
from rooftile.ir.polynomial import add, mul
from rooftile.passes.base import PassContext
from rooftile.passes.regions.access import Read
from rooftile.passes.regions.space import region_access

MOST_DIMS = 5  # 120 orders at the most are tried


@dataclass(frozen=True)
class Layout:
    """Chooses the strides of intermediate buffers."""

    name: ClassVar[str] = "layout"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with strides on the buffers for which another order than row-major reads better."""
        reads = _reads(graph)
        kept = {
            *graph.inputs,
            *graph.outputs,
            *(v for op in graph.ops if op.name == "extern" for v in (*op.inputs, *op.outputs)),
        }
        retyped: dict[Value, Value] = {}
        for value, loads in reads.items():
            if value in kept or not 2 <= value.type.rank <= MOST_DIMS:
                continue
            order = best_order(value, loads)
            if order != tuple(range(value.type.rank)):
                strides = strides_of(value.shape, order)
                retyped[value] = Value(value.name, replace(value.type, strides=strides))
        return retype(graph, retyped) if retyped else graph


def _reads(graph: Graph) -> dict[Value, list[Read]]:
    """Every region's reads of each buffer that another region writes."""
    written = {v for op in graph.ops if op.name == "region" for v in op.outputs}
    found: dict[Value, list[Read]] = {}
    for op in graph.ops:
        if op.name != "region" or not any(v in written for v in op.inputs):
            continue
        body = op.regions[0]
        outer = dict(zip(body.inputs, op.inputs, strict=True))
        for read in region_access(body)[1].loads():
            if outer[read.value] in written:
                found.setdefault(outer[read.value], []).append(read)
    return found


def best_order(value: Value, loads: Sequence[Read]) -> tuple[int, ...]:
    """The dimensions from outermost to innermost in memory; row-major where nothing reads better."""
    natural = tuple(range(value.type.rank))
    if not _divisions(value.shape, natural, loads):
        return natural
    return min(
        permutations(natural),
        key=lambda order: (_divisions(value.shape, order, loads), order[-1] != natural[-1], order),
    )


def _divisions(shape: Sequence[Size], order: Sequence[int], loads: Sequence[Read]) -> int:
    strides = strides_of(shape, order)
    total = 0
    for read in loads:
        position: Size = 0
        for e, stride in zip(read.index, strides, strict=True):
            position = add(position, mul(e, stride))
        total += sum(isinstance(a, (FloorDiv, Mod)) for a in atoms(position))
    return total


def strides_of(shape: Sequence[Size], order: Sequence[int]) -> tuple[Size, ...]:
    """The strides, in elements, of a dense buffer whose dimensions lie in memory in ``order``, outermost first."""
    strides: list[Size] = [0] * len(shape)
    step: Size = 1
    for d in reversed(order):
        strides[d] = step
        step = mul(step, shape[d])
    return tuple(strides)


def retype(graph: Graph, retyped: Mapping[Value, Value]) -> Graph:
    """``graph`` with values replaced by others of another type, inside the regions that write and read them too."""
    return replace(graph, ops=tuple(_retype_op(op, retyped) for op in graph.ops))


def _retype_op(op: Op, retyped: Mapping[Value, Value]) -> Op:
    if not any(v in retyped for v in (*op.inputs, *op.outputs)):
        return op
    inputs = tuple(retyped.get(v, v) for v in op.inputs)
    outputs = tuple(retyped.get(v, v) for v in op.outputs)
    if op.name != "region":
        return replace(op, inputs=inputs, outputs=outputs)
    body = op.regions[0]
    pairs = [*zip(body.inputs, inputs, strict=True), *zip(body.outputs, outputs, strict=True)]
    inner = {
        b: Value(b.name, replace(b.type, strides=o.type.strides)) for b, o in pairs if b.type.strides != o.type.strides
    }
    return replace(op, inputs=inputs, outputs=outputs, regions=(_rename(body, inner), *op.regions[1:]))


def _rename(body: Graph, new: Mapping[Value, Value]) -> Graph:
    def swap(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(new.get(v, v) for v in values)

    ops = tuple(replace(o, inputs=swap(o.inputs), outputs=swap(o.outputs)) for o in body.ops)
    return replace(body, inputs=swap(body.inputs), ops=ops, outputs=swap(body.outputs))
