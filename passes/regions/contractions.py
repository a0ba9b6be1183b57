"""The contractions of a region, and how the axes of each are grouped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rooftile.ir.dtypes import DType
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.regions.access import Access, Node, Read

SMALLEST_DOT = 16  # the least extent that matrix units take: of rows, of columns, and of what is summed


def contractions(access: Access) -> list[Read]:
    """The reads that are contractions."""
    return [r for r in access.reductions() if (op := access.nodes[r].op) is not None and op.name == "contract"]


def main_contraction(access: Access) -> Read:
    """The contraction with the largest iteration space: the one whose groups shape the tiles."""
    return max(contractions(access), key=lambda r: len(access.free[r] | set(access.nodes[r].bound)))


def multiplied(access: Access, read: Read) -> DType:
    """What the contraction ``read`` multiplies: the dtype of its operands."""
    return access.nodes[read].operands[0].value.dtype


def is_loaded(access: Access, read: Read) -> bool:
    """Whether ``read`` is a buffer's element as it stands, up to views."""
    node = access.nodes[read]
    while node.op is not None:
        if len(node.operands) != 1 or node.op.name in ("pointwise", "cast", "reduce", "contract", "pad"):
            return False
        node = access.nodes[node.operands[0]]
    return True


def loads_of_contractions(access: Access) -> set[Read]:
    """The loads that nothing but contractions reads, directly or through views and gathers."""
    users: dict[Read, list[tuple[Read, Node]]] = {}
    for read, node in access.nodes.items():
        for operand in (*node.operands, *access.index_reads(read).values()):
            users.setdefault(operand, []).append((read, node))

    def only(read: Read) -> bool:
        return bool(users.get(read)) and all(
            node.op is not None
            and (
                node.op.name == "contract"
                or (
                    node.operands == (read,)
                    and (GRAPH_OPS[node.op.name].view or node.op.name == "gather")
                    and only(user)
                )
            )
            for user, node in users[read]
        )

    stored = {read for _, read in access.roots}
    return {read for read in access.loads() if read not in stored and only(read)}


@dataclass(frozen=True)
class Groups:
    """The axes of a contraction by where they occur: in both operands and the result (``batch``), in the first only
    (``m``), in the second only (``n``), summed (``k``); ``outer`` axes are those of the region that the contraction
    doesn't vary over. Each in the region's order."""

    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]
    outer: tuple[str, ...]


def groups(access: Access, read: Read) -> Groups:
    """The axis groups of the contraction ``read``; an operand beyond the second counts with the first."""
    node = access.nodes[read]
    bound = set(node.bound)
    free = [access.free[o] - bound for o in node.operands]
    left = free[0].union(*free[2:])
    right = free[1] if len(free) > 1 else frozenset()
    every = access.free[read]

    def ordered(names: Iterable[str]) -> tuple[str, ...]:
        chosen = set(names)
        return tuple(a for a in access.axes if a in chosen)

    return Groups(
        ordered(left & right),
        ordered(left - right),
        ordered(right - left),
        ordered(bound),
        ordered(set(access.axes).difference(every, access.bound_axes())),
    )


def has_dot(access: Access) -> bool:
    """Whether there are contractions, and the main one multiplies matrices: not a matrix by a vector, nor rows by rows
    of their own."""
    shape = groups(access, main_contraction(access)) if contractions(access) else None
    return shape is not None and bool(shape.m and shape.n)
