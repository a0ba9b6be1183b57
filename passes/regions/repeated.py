"""What the threads of a program compute several times: values that vary over fewer axes than what they are part of.

A tile's elements are dealt out to threads, each of which computes what its own need: sines for positions and elements
of a head are computed for every head, whichever way the loops would be nested. (OLMoE's queries, normed and rotated, 16
heads x 2048: 13 us on an H200, by the bytes alone 6.)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.passes.regions.access import Access, Read, is_in_line

VECTOR = 8  # the elements, one after another in memory, that a thread holds of what it loads or stores at once


def repeated(access: Access, extents: Mapping[str, int]) -> dict[Read, int]:
    """How often each value of a region without products is computed for all that is made of it, where more than
    once.

    There are threads for what is loaded, at most: of few elements of which all pairs are looked at, each has many.
    """
    sizes = {read: prod(extents[a] for a in free) for read, free in access.free.items()}
    loaded = max((sizes[load] for load in access.loads()), default=1)
    found: dict[Read, int] = {}
    stack = [(root, access.free[root], _line(access, root)) for _, root in access.roots]
    met = set(stack)
    while stack:
        read, space, line = stack.pop()
        node = access.nodes[read]
        times = prod(extents[a] for a in space - access.free[read])
        times = min(times if line in access.free[read] else times // VECTOR, loaded // sizes[read])
        if node.bound:  # a tile of its own, from which threads pass on the result
            space, line = access.free[read] | set(node.bound), node.bound[-1]
        elif times > 1 and node.op is not None and not GRAPH_OPS[node.op.name].view:
            found[read] = max(times, found.get(read, 1))
        below = {(operand, space, line) for operand in node.operands} - met
        met |= below
        stack.extend(below)
    return found


def _line(access: Access, root: Read) -> str | None:
    """The axis along which neighbours are neighbours in memory."""
    return next((a for a in access.free[root] if is_in_line(root, a)), None)
