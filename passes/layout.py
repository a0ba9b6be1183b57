"""Pass ``layout``: the order in memory of the buffers between kernels.

A buffer gets the order of dimensions in which its readers' addresses need fewest quotients and remainders: where ``[b,
h, i, d]`` is read as rows ``(b, i)`` of length
``(h, d)``, it is stored as ``[b, i, h, d]`` and the read is contiguous::

    %o : bf16[b=1, h=8, i=128, d=64]   ->   %o : bf16[b=1, h=8, i=128, d=64] strides (65536, 64, 512, 1)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import ClassVar, TypeAlias

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import FloorDiv, Mod, Size, atoms
from rooftile.ir.polynomial import add, mul
from rooftile.ir.structure import Structures
from rooftile.passes.base import PassContext
from rooftile.passes.distinct import Distinct
from rooftile.passes.regions.space import region_access

Index: TypeAlias = tuple[Size, ...]
MOST_DIMS = 5  # 120 orders at the most are tried


@dataclass(frozen=True)
class Layout:
    """Chooses the strides of intermediate buffers."""

    name: ClassVar[str] = "layout"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with strides on the buffers for which another order than row-major reads better."""
        reads = _reads(graph, ctx.structures)
        kept = {
            *graph.inputs,
            *graph.outputs,
            *(v for op in graph.ops if op.name == "extern" for v in (*op.inputs, *op.outputs)),
        }
        retyped: dict[Value, Value] = {}
        orders: dict[Hashable, tuple[int, ...]] = {}
        for value, indices in reads.items():
            if value in kept or not 2 <= value.type.rank <= MOST_DIMS:
                continue
            key = (value.shape, *indices)
            if key not in orders:
                orders[key] = best_order(value.shape, indices)
            order = orders[key]
            if order != tuple(range(value.type.rank)):
                strides = strides_of(value.shape, order)
                retyped[value] = Value(value.name, replace(value.type, strides=strides))
        return retype(graph, retyped) if retyped else graph


def _reads(graph: Graph, structures: Structures) -> dict[Value, list[Index]]:
    """At which indices regions read each buffer that another region writes."""
    written = {v for op in graph.ops if op.name == "region" for v in op.outputs}
    known = Distinct[list[tuple[int, Index]]](structures)
    found: dict[Value, list[Index]] = {}
    for op in graph.ops:
        if op.name != "region" or not any(v in written for v in op.inputs):
            continue
        for number, index in known.of(op.regions[0], partial(_loads, op.regions[0]))[0]:
            if op.inputs[number] in written:
                found.setdefault(op.inputs[number], []).append(index)
    return found


def _loads(body: Graph) -> list[tuple[int, Index]]:
    """Every read of an input, by the input's number."""
    numbers = {v: n for n, v in enumerate(body.inputs)}
    return [(numbers[read.value], read.index) for read in region_access(body)[1].loads()]


def best_order(shape: Sequence[Size], indices: Sequence[Index]) -> tuple[int, ...]:
    """The dimensions from outermost to innermost in memory; row-major where nothing reads better."""
    natural = tuple(range(len(shape)))
    if not _divisions(shape, natural, indices):
        return natural
    return min(
        permutations(natural), key=lambda order: (_divisions(shape, order, indices), order[-1] != natural[-1], order)
    )


def _divisions(shape: Sequence[Size], order: Sequence[int], indices: Sequence[Index]) -> int:
    strides = strides_of(shape, order)
    total = 0
    for index in indices:
        position: Size = 0
        for e, stride in zip(index, strides, strict=True):
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
