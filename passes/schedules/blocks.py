"""Which loads descriptors can carry, whatever tiles a schedule gives them."""

from __future__ import annotations

from rooftile.ir.blocks import rows_aligned
from rooftile.passes.regions.access import Access, Read, address

LARGEST_TILE = 256  # along one axis


def is_block(access: Access, load: Read) -> bool:
    """Whether ``load`` is of blocks: at indices that are not read, or are numbers that a program reads once, in aligned
    steps along every axis, one of them contiguous."""
    if any(access.free[read] for read in access.index_reads(load).values()):
        return False
    return rows_aligned(address(load), access.free[load], load.value.dtype, LARGEST_TILE)
