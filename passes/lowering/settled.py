"""What reads come to where others are settled: a mask that adds nothing in the steps of a phase, and what a maximum of
the rest is then."""

from __future__ import annotations

from math import inf

from rooftile.ir.core import Value
from rooftile.ir.dtypes import F32
from rooftile.ir.scalar import COMBINES
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.numbers import number_in
from rooftile.passes.regions.access import Node, Read, is_same


def remaining(kernel: Kernel, node: Node, block: Block) -> Read | None:
    """The operand that ``node`` is in every step of ``block``: the choice that its condition settles, or what nothing
    but zeros is added to (a negative zero stays one); None where there is no such."""
    if node.op is None or not block.settled:
        return None
    match node.op.attrs.get("fn"), node.operands:
        case "where", [condition, a, b] if (number := _number(kernel, condition, block)) is not None:
            return a if number else b
        case "add", [a, b] if _number(kernel, a, block) == 0:
            return b
        case "add", [a, b] if _number(kernel, b, block) == 0:
            return a
    return None


def without_factor(kernel: Kernel, node: Node, block: Block) -> tuple[Read, Value] | None:
    """Of a maximum or minimum, what it is taken of in every step of ``block`` without the positive number that all of
    it is multiplied by, and that number: what pass ``factors`` does where it can be done in all steps. Rounding keeps
    an order, so that the maximum is the same."""
    op = node.op
    if op is None or op.output.dtype is not F32 or COMBINES[op.attrs["fn"]].scalar not in ("maximum", "minimum"):
        return None
    if COMBINES[op.attrs["fn"]].position or not is_on_narrow_floats(kernel.access.body):
        return None
    product = kernel.access.nodes[node.operands[0]]
    if (rest := remaining(kernel, product, block)) is None:
        return None
    product = kernel.access.nodes[rest]
    if product.op is None or product.op.attrs.get("fn") != "mul":
        return None
    producers = kernel.access.body.producers()
    for factor, other in (product.operands, product.operands[::-1]):
        number = number_in(factor.value, producers.get)
        if number is not None and 0 < number < inf:
            return other, kernel.emit(factor, block)
    return None


def _number(kernel: Kernel, read: Read, block: Block) -> float | None:
    """What ``read`` is settled to be in ``block``, itself or by the choices that it takes."""
    chosen = False
    while read not in block.settled:
        node = kernel.access.nodes[read]
        if node.op is None:
            return None
        if chosen and node.op.name == "constant":
            number: float = node.op.attrs["value"]
            return number
        if is_same(node):
            read = node.operands[0]
        elif node.op.attrs.get("fn") == "where" and (rest := remaining(kernel, node, block)) is not None:
            read, chosen = rest, True
        else:
            return None
    return block.settled[read]
