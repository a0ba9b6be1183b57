"""What reads become that neither reduce nor contract: loads, numbers, positions, choices."""

from __future__ import annotations

from rooftile.ir.core import Value
from rooftile.ir.expr import of, size_symbols, symbols
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.substitution import evaluate
from rooftile.passes.lowering.indices import checked_indices
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.regions.access import Guard, Node, Read, address
from rooftile.passes.regions.sizes import likely

FAR = 2**62  # elements


def load(kernel: Kernel, read: Read, block: Block) -> Value:
    """The tile of a buffer that ``read`` is."""
    guard = _full_guard(kernel, read, block) + checked_indices(kernel, read, block)
    exprs, operands = kernel.with_indices([*read.index, *(e for e, _ in guard)], kernel.access.index_reads(read), block)
    index, conditions = exprs[: len(read.index)], exprs[len(read.index) :]
    attrs = {
        "index": tuple(index),
        "axes": _memory_order(kernel, read) if read in kernel.dot_only else kernel.held(kernel.access.free[read]),
        "guard": tuple((e, n) for e, (_, n) in zip(conditions, guard, strict=True)),
        "fill": 0.0 if guard else None,
    }
    return kernel.add(block, "load", (kernel.buffers[read.value], *operands), attrs, name=read.value.name)


def _full_guard(kernel: Kernel, read: Read, block: Block) -> Guard:
    """The read's own guard, and that every axis is within its extent."""
    return kernel.within(kernel.axes_in((*read.index, *(e for e, _ in read.guard))), block) + read.guard


def _memory_order(kernel: Kernel, read: Read) -> tuple[tuple[str, int], ...]:
    """The axes that a load's tile holds, the one along which memory is contiguous last: what a dot's operand wants.
    Rows whose places are read lie far apart."""
    position = address(read)
    sizes = {s.name: likely(of(s)) for s in size_symbols(position)}
    start = {s.name: 0 for s in symbols(position)} | sizes

    def step(name: str) -> int:
        return evaluate(position, start | {name: 1}) - evaluate(position, start)

    return tuple(sorted(kernel.held(kernel.access.free[read]), key=lambda held: -(abs(step(held[0])) or FAR)))


def index_value(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    """A size, or the position along an axis."""
    op = node.op
    assert op is not None
    checked_indices(kernel, read, block)
    expr = op.attrs["value"] if op.name == "size" else read.index[0]
    (at,), operands = kernel.with_indices([expr], kernel.access.index_reads(read), block)
    value = kernel.add(block, "index", operands, {"expr": at, "axes": kernel.held(kernel.access.free[read])})
    return kernel.cast(value, op.output.dtype, block)


def choose(kernel: Kernel, read: Read, node: Node, block: Block) -> Value:
    """The operand whose case holds (concat), or the padding value where none does (pad)."""
    op = node.op
    assert op is not None
    values = [kernel.emit(o, block) for o in node.operands]
    if op.name == "pad" and op.attrs["value"] == 0 and values and _is_loaded(kernel, node.operands[0]):
        return values[0]  # a load is 0 wherever its guard doesn't hold
    if op.name == "concat":
        result, pairs = values[-1], list(zip(node.cases, values, strict=True))[-2::-1]
    else:
        result = kernel.number(op.attrs["value"], op.output.dtype, block)
        pairs = list(zip(node.cases, values, strict=True))
    for case, value in pairs:
        result = value if not case else kernel.pointwise("where", [kernel.inside(case, block), value, result], block)
    return result


def _is_loaded(kernel: Kernel, read: Read) -> bool:
    """Whether ``read`` is an element of a buffer, up to views that only change its index."""
    node = kernel.access.nodes[read]
    while node.op is not None and GRAPH_OPS[node.op.name].view and not node.cases:
        node = kernel.access.nodes[node.operands[0]]
    return node.op is None
