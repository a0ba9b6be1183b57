"""Which regions have two products that can be one: of a first operand that they share, with second ones that lie at one
distance from each other in memory, so that blocks of both are loaded as one."""

from __future__ import annotations

from rooftile.ir.blocks import ALIGNMENT
from rooftile.ir.division import divides
from rooftile.ir.polynomial import add, mul
from rooftile.passes.regions.access import Access, Read, address, is_in_line
from rooftile.passes.regions.contractions import contractions, is_loaded
from rooftile.passes.schedules.blocks import LARGEST_TILE, is_block


def joined_operands(access: Access) -> tuple[Read, Read, Read] | None:
    """The operand that the region's two contractions share, and the loads of the others; None where they can't be one
    product."""
    found = contractions(access)
    if len(found) != 2 or access.free[found[0]] != access.free[found[1]]:
        return None
    first, second = (access.nodes[read].operands for read in found)
    shared = set(first) & set(second)
    if len(first) != 2 or len(second) != 2 or len(shared) != 1 or any(len(set(pair)) < 2 for pair in (first, second)):
        return None
    (common,) = shared
    one, other = (load_of(access, next(o for o in pair if o != common)) for pair in (first, second))
    (depth,) = access.nodes[found[0]].bound if len(access.nodes[found[0]].bound) == 1 else ("",)
    if one is None or other is None or access.nodes[found[1]].bound != (depth,):
        return None
    return (common, one, other) if is_in_line(one, depth, LARGEST_TILE) and _one_distance(access, one, other) else None


def load_of(access: Access, operand: Read) -> Read | None:
    """The buffer that ``operand`` is, up to views; None where it is computed."""
    if not is_loaded(access, operand):
        return None
    while access.nodes[operand].op is not None:
        (operand,) = access.nodes[operand].operands
    return operand


def _one_distance(access: Access, one: Read, other: Read) -> bool:
    """Whether the same number of elements lies between ``one`` and ``other`` everywhere."""
    if not (is_block(access, one) and is_block(access, other)) or one.value.dtype.bytes != 2:
        return False
    distance = add(address(other), mul(address(one), -1))
    if one.value is other.value:
        return isinstance(distance, int) and distance != 0 and divides(ALIGNMENT // one.value.dtype.bytes, distance)
    return distance == 0 and one.value.type == other.value.type and one.value.type.strides is None
