"""Ragged axes: those along which a contraction's operand is read at the number of a segment.

Where no tile of such an axis reaches from one segment into the next, the number is the same in all of a tile, and what
is read at it is an ordinary tile: products of groups of rows, each group with a matrix of its own, are products.
"""

from __future__ import annotations

from rooftile.ir.expr import axis, symbols
from rooftile.passes.regions.access import Access, Read, is_segment
from rooftile.passes.regions.contractions import contractions
from rooftile.passes.regions.sizes import likely


def ragged_axes(access: Access) -> tuple[str, ...]:
    """The axis that is to be ragged, if there is one: of several, and of several rows of ends, the first."""
    found: dict[str, None] = {}
    for read in segments_of_contractions(access):
        name = next((s.name for s in symbols(read.index[0])), "")
        extent = access.axes.get(name)
        if extent is not None and read.index[0] == axis(name, extent) and name not in access.bound_axes():
            found[name] = None
    return tuple(found)[:1]


def segments_of_contractions(access: Access) -> list[Read]:
    """The numbers of segments at which operands of contractions are read."""
    found: dict[Read, None] = {}
    if not any(map(is_segment, access.nodes.values())):
        return []
    for dot in contractions(access):
        stack = list(access.nodes[dot].operands)
        while stack:
            read = stack.pop()
            stack.extend(access.nodes[read].operands)
            found |= dict.fromkeys(r for r in access.index_reads(read).values() if is_segment(access.nodes[r]))
    return list(found)


def loose_segments(access: Access) -> list[Read]:
    """The numbers of segments that vary within a tile."""
    return [read for read, node in access.nodes.items() if is_segment(node) and access.free[read]]


def segments(access: Access, name: str) -> int:
    """How many segments of the axis may have rows; one for an axis that is not ragged."""
    if name not in access.segments:
        return 1
    return max(1, min(likely(access.segments[name][1]) + 1, likely(access.axes[name])))
