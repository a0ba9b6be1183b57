"""What a value costs where it is computed for every pair of indices, in FLOPs of plain arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import symbols
from rooftile.ir.polynomial import product
from rooftile.ir.scalar import SCALARS
from rooftile.passes.combinations.sources import Source, is_followed
from rooftile.passes.regions.cost import GATHERED
from rooftile.passes.regions.sizes import likely

READ = 12  # one element of a tile that lies in order in a cache: a load that nothing waits for, and its address


def flops(op: Op) -> int:
    """The price of one element of the result of ``op``; views cost nothing."""
    if op.name == "pointwise":
        return SCALARS[op.attrs["fn"]].flops
    if op.name == "gather":
        return GATHERED if len(op.inputs) > 1 else READ
    return 1 if op.name == "cast" else 0


def of_each(value: Value, producers: Mapping[Value, Op], known: Mapping[Value, Source]) -> int:
    """The FLOPs of computing ``value`` from positions and from memory, each op as often as its result varies."""
    seen: set[Value] = set()
    stack, total = [value], 0
    while stack:
        current = stack.pop()
        op = producers.get(current)
        if current in seen or op is None or not (is_followed(op) or op.name == "gather"):
            continue
        seen.add(current)
        total += flops(op) * elements(current, known[current])
        if known[current].linear is None:
            stack.extend(op.inputs[1:] if op.name == "gather" else op.inputs)
    return total


def elements(value: Value, source: Source) -> int:
    """How many indices ``value`` varies over, by the likely sizes."""
    varied = {s.name for e in source.varies for s in symbols(e)}
    return likely(product([size for d, size in enumerate(value.shape) if f"x{d}" in varied]))


def of_all(ops: Iterable[Op]) -> int:
    """The FLOPs of all results of ``ops``."""
    return sum(flops(op) * likely(op.output.type.numel) for op in ops)
