"""Rows that read the same share it: few rows in one tile, many rows in several tiles of one program.

A query of grouped heads has few rows (the heads of a group, the queries of each), but many of them read the same keys
and values. The axis of heads is split where what is loaded is read at a quotient of it, and all rows of a group become
one axis. Where there are many rows, a program may have tiles of them from several places.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from rooftile.ir.core import Graph
from rooftile.passes.regions.access import Access, Space
from rooftile.passes.regions.compose import compose
from rooftile.passes.regions.forms import Chain, chain_form
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.space import divided_axes, merge, split_axis

FEW_ROWS = 64  # as many as one tile holds


def gather_few_rows(body: Graph, space: Space, access: Access) -> tuple[Space, Access]:
    """``space`` with the rows that read the same as one axis, where they are few; else as it is."""
    split, grouped = space, access
    while (found := _group(grouped)) is not None:
        split, _, _ = split_axis(split, grouped, *found, "g")
        grouped = compose(body, split)
    chain = chain_form(grouped)
    if not isinstance(chain, Chain) or not chain.row or prod(likely(grouped.axes[a]) for a in chain.row) > FEW_ROWS:
        return space, access
    if len(chain.row) > 1:
        split, grouped, _ = merge(body, split, grouped, chain.row, chain.row[-1])
    return (split, grouped) if isinstance(chain_form(grouped), Chain) else (space, access)


def side_by_side(body: Graph, space: Space, access: Access, row: str, count: int) -> tuple[Space, Access, str]:
    """``space`` with the rows in ``count`` parts, of each of which a program has a tile, so that what these all read is
    loaded once; and the axis of a part's rows. ``count`` divides the number of rows."""
    size = int(str(access.axes[row])) // count
    split, part, inner = split_axis(space, access, row, size, "p")
    split = replace(split, parts=(*space.parts, part))
    return split, compose(body, split), inner


def _group(access: Access) -> tuple[str, int] | None:
    """An axis of the grid, and the size of the groups of it that read the same of a buffer."""
    for name, extent, stride, size in divided_axes(access, access.loads()):
        if stride == 1 and 1 < size < extent and extent % size == 0:
            return name, size
    return None
