"""A tile combined over the axes that it holds, with what lies beyond the ends of the axes left out."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Value
from rooftile.ir.dtypes import B1, I64, DType
from rooftile.ir.expr import axis
from rooftile.ir.scalar import COMBINES, Combine
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.settled import without_factor
from rooftile.passes.regions.access import Guard, Node


def reduce(kernel: Kernel, node: Node, block: Block) -> Value:
    """The operand's tile combined over its bound axes."""
    assert node.op is not None
    row = COMBINES[node.op.attrs["fn"]]
    operand, factor = without_factor(kernel, node, block) or (node.operands[0], None)
    value = kernel.emit(operand, block)
    value = masked(kernel, value, node.bound, identity_value(row, value.dtype), block, _counted(kernel, node, row))
    reduced = [name for name in node.bound if name in (value.type.axes or ())]
    for name in reduced:
        value = kernel.add(block, "reduce", (value,), {"fn": row.name, "axis": name})
    if factor is not None:
        value = kernel.pointwise("mul", [value, factor], block)
    if row.position and not reduced:
        return kernel.number(0, I64, block)
    return repeat(kernel, value, node, block) if row.name == "sum" and node.op.name == "reduce" else value


def _counted(kernel: Kernel, node: Node, row: Combine) -> Guard:
    """The positions that count besides those that the operand has: what lies before a scan's, each factor of a
    product of equal ones."""
    if node.cases:
        return node.cases[0]
    names = absent(kernel, node) if row.name == "prod" else []
    return tuple((axis(n, kernel.access.axes[n]), kernel.access.axes[n]) for n in names)


def repeat(kernel: Kernel, value: Value, node: Node, block: Block) -> Value:
    """A sum counts an operand once per position of the axes along which it doesn't vary."""
    for name in absent(kernel, node):
        extent = kernel.access.axes[name]
        if name in kernel.loops:
            tile = kernel.tiles[name]
            inside = kernel.inside(((axis(name, extent), extent),), block)
            ones = (
                kernel.add(block, "reduce", (kernel.cast(inside, value.dtype, block),), {"fn": "sum", "axis": name})
                if tile > 1
                else kernel.cast(inside, value.dtype, block)
            )
        else:
            ones = kernel.cast(kernel.add(block, "index", (), {"expr": extent, "axes": ()}), value.dtype, block)
        value = kernel.pointwise("mul", [value, ones], block)
    return value


def absent(kernel: Kernel, node: Node) -> list[str]:
    """The bound axes along which no operand varies."""
    varying = frozenset().union(*(kernel.access.free[o] for o in node.operands))
    return [a for a in node.bound if a not in varying]


def masked(kernel: Kernel, value: Value, names: Sequence[str], fill: float, block: Block, counted: Guard = ()) -> Value:
    """``value`` with ``fill`` at positions beyond the end of the axes ``names``, and where ``counted`` fails."""
    guard = kernel.within((n for n in names if n in (value.type.axes or ())), block) + counted
    if not guard:
        return value
    constant = kernel.number(fill, value.dtype, block)
    return kernel.pointwise("where", [kernel.inside(guard, block), value, constant], block)


def identity_value(row: Combine, dtype: DType) -> float | int:
    """What an absent element counts as in a reduction over ``dtype``."""
    if isinstance(row.identity, float):
        return row.identity if dtype.is_float else int(row.identity)
    if dtype.is_float:
        return float("-inf") if row.identity == "lowest" else float("inf")
    if dtype is B1:
        return 0 if row.identity == "lowest" else 1
    low, high = dtype.limits
    return low if row.identity == "lowest" else high
