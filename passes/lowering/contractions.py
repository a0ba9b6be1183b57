"""One tile's share of a contraction: a dot on the tensor cores where the operands have its form."""

from __future__ import annotations

from collections.abc import Sequence

from rooftile.ir.core import Value
from rooftile.ir.dtypes import BF16, F8E4M3, F8E5M2, F16, F32, DType
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.dtypes import is_narrow
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.lowering.reductions import masked, repeat
from rooftile.passes.regions.access import Node, Read
from rooftile.passes.regions.contractions import SMALLEST_DOT

EXACT_FP32 = "tf32x3"  # each operand as the sum of two TF32 numbers; what Triton and our interpreter know by the name
DOT_TYPES = frozenset({F32, BF16, F16, F8E4M3, F8E5M2})


def contract(kernel: Kernel, node: Node, block: Block, state: Value | None) -> Value:
    """One tile's share of a contraction, added to ``state``: a dot where the operands have its form, else product
    and sum."""
    assert node.op is not None
    acc: DType = node.op.attrs["acc"]
    values = [_operand(kernel, o, node.bound, block) for o in node.operands]
    held = [v.type.axes or () for v in values]
    inner = [a for a in node.bound if kernel.tiles.get(a, 1) > 1]
    if _is_dot(kernel, values, held, inner):
        rows, columns = (next(a for a in h if a != inner[0]) for h in held)
        if kernel.order[rows] > kernel.order[columns]:
            values.reverse()
        operands = (*values, state) if state is not None else tuple(values)
        precision = _precision(kernel, node, values[0].dtype)
        return kernel.add(block, "dot", operands, {"axis": inner[0], "acc": acc, "precision": precision})
    total = kernel.cast(values[0], acc, block)
    for value in values[1:]:
        total = kernel.pointwise("mul", [total, kernel.cast(value, acc, block)], block)
    total = repeat(kernel, total, node, block)
    for name in inner:
        if name in (total.type.axes or ()):
            total = kernel.add(block, "reduce", (total,), {"fn": "sum", "axis": name})
    return total if state is None else kernel.pointwise("add", [state, total], block)


def _precision(kernel: Kernel, node: Node, operand: DType) -> str:
    """That of products of fp32 for these. Products of other types have one way; ``"exact"`` where those of narrow
    operands are to be added in fp32."""
    if operand is F32:
        return kernel.precision
    assert node.op is not None
    rounded = all(is_narrow(v.dtype) for v in kernel.access.body.outputs)
    return "exact" if node.op.attrs.get("exact") and not rounded else "ieee"


def _operand(kernel: Kernel, read: Read, bound: Sequence[str], block: Block) -> Value:
    """A contraction's operand, zero beyond the end of the summed axes."""
    value = kernel.emit(read, block)
    return value if _zero_outside(kernel, read) else masked(kernel, value, bound, 0.0, block)


def _zero_outside(kernel: Kernel, read: Read) -> bool:
    """Whether a load with fill 0 is all that ``read`` is, up to views and casts."""
    node = kernel.access.nodes[read]
    while node.op is not None:
        if node.op.name in ("concat", "pad") or not (node.op.name == "cast" or GRAPH_OPS[node.op.name].view):
            return False
        node = kernel.access.nodes[node.operands[0]]
    return True


def _is_dot(kernel: Kernel, values: Sequence[Value], held: Sequence[tuple[str, ...]], inner: Sequence[str]) -> bool:
    if len(values) != 2 or len(inner) != 1 or any(v.dtype not in DOT_TYPES for v in values):
        return False
    if values[0].dtype is not values[1].dtype:
        return False
    outer = [set(h) - set(inner) for h in held]
    shapes_fit = all(len(h) == 2 and inner[0] in h and len(o) == 1 for h, o in zip(held, outer, strict=True))
    big_enough = all(kernel.tiles[a] >= SMALLEST_DOT for h in held for a in h)
    return shapes_fit and outer[0] != outer[1] and big_enough
