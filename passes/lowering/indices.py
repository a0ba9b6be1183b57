"""Indices that come from data: each is checked against the dimension that it reads, and nothing is read where it fails.

A gather's index is trusted by the arithmetic of addresses, so one that is out of range would read another row, or what
lies behind the buffer. The check covers the elements that the program wants, not the lanes beyond the end of an axis.
"""

from __future__ import annotations

from rooftile.ir.core import Op, freeze_attrs
from rooftile.ir.division import divides
from rooftile.ir.expr import Size, axis, of, symbols
from rooftile.ir.ranges import at_least
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.regions.access import Guard, Read, is_segment


def checked_indices(kernel: Kernel, read: Read, block: Block) -> Guard:
    """That every index which ``read`` takes from data is in range, after checks of that where the index is computed."""
    exprs = (*read.index, *(e for e, _ in read.guard))
    used = {s for e in exprs for s in symbols(e) if s.name in kernel.access.indirect}
    used = {s for s in used if not _is_in_range(kernel.access.indirect[s.name], s.extent or 1, kernel)}
    for symbol in sorted(used, key=str):
        _check((of(symbol), symbol.extent or 1), kernel.access.indirect[symbol.name], kernel, block)
    return tuple((of(symbol), symbol.extent or 1) for symbol in sorted(used, key=str))


def _is_in_range(index: Read, extent: Size, kernel: Kernel) -> bool:
    """Whether ``index`` is the number of a segment, of which there are at most ``extent``."""
    node = kernel.access.nodes[index]
    return is_segment(node) and at_least(extent - node.operands[0].value.shape[0], 1)


def _check(bound: tuple[Size, Size], index: Read, kernel: Kernel, block: Block) -> None:
    """Stop the program where ``index``, which the symbol in ``bound`` stands for, is wanted and out of range."""
    home = kernel.block_for(index, block)
    if bound in home.checked:
        return
    home.checked.add(bound)
    fine = kernel.inside((bound,), home)
    wanted = _elements(index, kernel)
    if wanted:
        idle = kernel.pointwise("not", [kernel.inside(wanted, home)], home)
        fine = kernel.pointwise("or", [fine, idle], home)
    message = f"an index is out of range: the dimension that it reads has {bound[1]} elements"
    home.ops.append(Op("check", (fine,), (), freeze_attrs({"message": message})))


def _elements(index: Read, kernel: Kernel) -> Guard:
    """Where a tile of ``index`` holds what the program asked for."""
    extents = ((a, kernel.access.axes[a]) for a in kernel.order if a in kernel.access.free[index])
    return tuple((axis(a, n), n) for a, n in extents if not divides(kernel.tiles[a], n)) + index.guard
