"""Which accesses a tensor descriptor can carry: blocks of a strided tensor, which the hardware copies by itself.

A block past the tensor's end reads as zero there and isn't written there, so a guard that only says where the axes end
needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rooftile.codegen.guards import needed
from rooftile.codegen.positions import Positions
from rooftile.codegen.space import Axis
from rooftile.ir.blocks import ALIGNMENT, aligned_strides, step_along
from rooftile.ir.core import is_index_value
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size, symbols
from rooftile.ir.expr import axis as axis_position
from rooftile.ir.ranges import at_least, equal

Guard = tuple[tuple[Size, Size], ...]

MOST_RANK = 5
LONGEST = 256  # elements of a block along one dimension


@dataclass(frozen=True)
class Block:
    """The tile of an access as a block of a tensor: ``axes`` are the tensor's dimensions, the contiguous one last,
    ``strides`` their steps in elements, and ``base`` is the element of the buffer at which the tensor starts."""

    base: Size
    axes: tuple[Axis, ...]
    strides: tuple[Size, ...]

    @property
    def held(self) -> tuple[str, ...]:
        """The dimensions that the tile has; the others are one long."""
        return tuple(axis.name for axis in self.axes if axis.tile > 1)


def block_of(dtype: DType, offset: Size, guard: Guard, held: Sequence[str], positions: Positions) -> Block | str:
    """The block that a tile over the axes ``held`` is, at element ``offset`` of a buffer, where ``guard`` holds; or why
    it is none.

    The block's base is the same in all of a program: axes of tile 1 that move it become dimensions.
    """
    if dtype.kind == "bool" or dtype.bytes not in (1, 2, 4):
        return f"{dtype} has no descriptors"
    if len(held) < 2:
        return "it has fewer than two axes"
    if any(is_index_value(s.name) for s in symbols(offset)):
        return "its index is read from memory"
    others = sorted((s for s in symbols(offset) if s.name not in held and s.name in positions.space), key=str)
    if any(positions.space[s.name].tile > 1 for s in others):
        return "its index varies where the tile does not"
    moving = [s.name for s in others if positions.variable(s).depth]
    strides: dict[str, Size] = {}
    for name in (*moving, *held):
        stride, offset = step_along(offset, name)
        if stride is None:
            return f"its address is not linear in {name}"
        strides[name] = stride
    return _checked(dtype, Block(offset, *_ordered(strides, positions.space.axes)), guard, positions)


def _ordered(strides: dict[str, Size], axes: dict[str, Axis]) -> tuple[tuple[Axis, ...], tuple[Size, ...]]:
    """The dimensions in the given order, a contiguous one last."""
    names = sorted(strides, key=lambda name: strides[name] == 1)
    return tuple(axes[name] for name in names), tuple(strides[name] for name in names)


def _checked(dtype: DType, block: Block, guard: Guard, positions: Positions) -> Block | str:
    """``block``, or which of the hardware's limits it breaks."""
    limits = (
        (len(block.axes) <= MOST_RANK, f"it has {len(block.axes)} axes"),
        (aligned_strides(block.strides, block.base, dtype), "its rows are not aligned"),
        (all(axis.tile <= LONGEST for axis in block.axes), f"it is longer than {LONGEST}"),
        (block.axes[-1].tile * dtype.bytes >= ALIGNMENT, f"its rows are shorter than {ALIGNMENT} bytes"),
        (all(at_least(axis.extent, 1) for axis in block.axes), "it may be empty"),
        (all(positions.fits_int32(axis.name) for axis in block.axes), "it takes positions beyond 32 bits"),
        (_ends_only(guard, block, positions), "its guard says more than where its axes end"),
    )
    return next((reason for holds, reason in limits if not holds), block)


def _ends_only(guard: Guard, block: Block, positions: Positions) -> bool:
    """Whether ``guard`` says nothing that the tensor's shape does not."""
    ends = [(axis_position(a.name, a.extent), a.extent) for a in block.axes]
    conditions = needed(guard, positions.space)
    return all(c.bound and any(equal(c.left, p) and equal(c.right, n) for p, n in ends) for c in conditions)
