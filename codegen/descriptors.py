"""Which accesses a tensor descriptor can carry: blocks of a strided tensor, which the hardware copies by itself.

A block past the tensor's end reads as zero there and isn't written there, so a guard that only says where the axes end
needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from math import prod

from rooftile.codegen.guards import needed
from rooftile.codegen.kernel import Blocks, KernelParam
from rooftile.codegen.names import Names
from rooftile.codegen.positions import Positions
from rooftile.codegen.space import Axis
from rooftile.ir.blocks import ALIGNMENT, Step, aligned_strides, steps_along
from rooftile.ir.core import is_index_value
from rooftile.ir.division import floordiv
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Expr, Size, Symbol, of, symbols
from rooftile.ir.expr import axis as axis_position
from rooftile.ir.polynomial import linear_in
from rooftile.ir.ranges import LARGEST_SIZE, at_least, equal

Guard = tuple[tuple[Size, Size], ...]

MOST_RANK = 5
LONGEST = 256  # elements of a block along one dimension


@dataclass(frozen=True)
class Dimension:
    """One dimension of a block: the part of ``axis`` that it is, its extent and tile, the tile's first position in it,
    and the step in elements."""

    axis: Axis
    extent: Size
    tile: int
    start: Size
    stride: Size


@dataclass(frozen=True)
class Block:
    """The tile of an access as a block of a tensor: the tensor's dimensions, the contiguous one last, and the element
    ``base`` of the buffer at which it starts."""

    base: Size
    dimensions: tuple[Dimension, ...]

    @property
    def held(self) -> tuple[str, ...]:
        """The axes that the tile has as dimensions."""
        return tuple(dict.fromkeys(d.axis.name for d in self.dimensions if d.axis.tile > 1))


@dataclass
class Carriers:
    """How the accesses of a kernel were carried: of each buffer None if through descriptors, else why not; and the
    descriptors that it is to be given.

    A descriptor costs a program that makes it about a microsecond, so one that is the same for all programs is made by
    the host. ``own`` leaves all to the programs.
    """

    names: Names
    params: dict[Blocks, KernelParam]
    own: bool
    reasons: dict[str, str | None] = field(default_factory=dict)

    def given(self, dtype: DType, blocks: Blocks) -> str:
        """The parameter that is a descriptor of these blocks."""
        if blocks not in self.params:
            name = self.names.fresh(blocks.buffer.removesuffix("_ptr") + "_block")
            self.params[blocks] = KernelParam(name, "descriptor", dtype.name, aligned=False, blocks=blocks)
        return self.params[blocks].name


def block_of(
    dtype: DType,
    numel: Size,
    offset: Size,
    guard: Guard,
    held: Sequence[str],
    positions: Positions,
    *,
    own: bool,
) -> Block | str:
    """The block that a tile over the axes ``held`` is, at element ``offset`` of a buffer of ``numel`` elements, where
    ``guard`` holds; or why it is none.

    Its base is the same in all programs: axes of tile 1 and numbers from memory that move it are dimensions too. Where
    it cannot be, or programs make their ``own`` descriptors, it is the same in all of a program.
    """
    if dtype.kind == "bool" or dtype.bytes not in (1, 2, 4):
        return f"{dtype} has no descriptors"
    if len(held) < 2:
        return "it has fewer than two axes"
    read = sorted((s for s in symbols(offset) if is_index_value(s.name)), key=str)
    if any(positions.variable(s).axes or positions.variable(s).wide for s in read):
        return "its index is read from memory"
    others = sorted((s for s in symbols(offset) if s.name not in held and s.name in positions.space), key=str)
    if any(positions.space[s.name].tile > 1 for s in others):
        return "its index varies where the tile does not"
    if not own:
        found = _block_along((*(s.name for s in others), *held), read, dtype, numel, offset, guard, positions)
        if isinstance(found, Block):
            return _merged(found)
    inside = (s.name for s in others if positions.variable(s).depth)
    return _block_along((*inside, *held), read, dtype, numel, offset, guard, positions)


def _block_along(
    names: Sequence[str],
    read: Sequence[Symbol],
    dtype: DType,
    numel: Size,
    offset: Size,
    guard: Guard,
    positions: Positions,
) -> Block | str:
    """The block whose dimensions the axes ``names`` and the numbers ``read`` from memory move through."""
    dimensions: list[Dimension] = []
    for symbol in read:
        stride, offset = linear_in(offset, symbol) if isinstance(offset, Expr) else (None, offset)
        if not isinstance(stride, int) or stride <= 0:
            return "its address is not linear in an index that is read from memory"
        extent = floordiv(numel, stride)
        dimensions.append(Dimension(Axis(symbol.name, extent, "grid", 1), extent, 1, of(symbol), stride))
    for name in names:
        axis = positions.space[name]
        found = steps_along(offset, name, axis.tile)
        if found is None:
            return f"its address is not linear in {name}"
        steps, offset = found
        parts = [_dimension(axis, step) for step in steps]
        if prod(d.tile for d in parts) != axis.tile or not all(_even(axis, step) for step in steps):
            return f"it repeats or cuts rows along {name}"
        dimensions += parts
    return _checked(dtype, Block(offset, _ordered(dimensions)), guard, positions)


def _dimension(axis: Axis, step: Step) -> Dimension:
    """The dimension of a block that ``axis`` moves through in steps of this kind."""
    start, extent, tile = axis.start // step.over, axis.extent, axis.tile
    if step.size is not None:
        start, extent = axis.start % step.size, step.size
        tile = min(tile, step.size) if isinstance(step.size, int) else tile
    elif step.over != 1:
        extent = -(-axis.extent // step.over)
        tile = max(1, tile // step.over) if isinstance(step.over, int) else 1
    return Dimension(axis, extent, tile, start, step.stride)


def _even(axis: Axis, step: Step) -> bool:
    """Whether the positions of an axis fill whole rows of a step's, as they must where a tile holds several."""
    row = step.over if step.size is None else step.size
    return axis.tile == 1 or axis.extent % row == 0


def _ordered(dimensions: list[Dimension]) -> tuple[Dimension, ...]:
    """The dimensions in the given order, but those of the contiguous axis last."""
    last = next((d.axis.name for d in dimensions if d.stride == 1), "")
    return tuple(sorted(dimensions, key=lambda d: d.axis.name == last))


def _checked(dtype: DType, block: Block, guard: Guard, positions: Positions) -> Block | str:
    """``block``, or which of the hardware's limits it breaks."""
    last, rank = block.dimensions[-1], len(block.dimensions)
    strides = [d.stride for d in block.dimensions]
    axes = {d.axis.name: d.axis for d in block.dimensions}
    fits = all(positions.fits_int32(name) for name in axes if name in positions.space)
    limits = (
        (rank <= MOST_RANK, f"it has {rank} dimensions"),
        (last.stride == 1 and aligned_strides(strides, block.base, dtype), "its rows are not aligned"),
        (all(d.tile <= LONGEST for d in block.dimensions), f"it is longer than {LONGEST}"),
        (last.tile * dtype.bytes >= ALIGNMENT, f"its rows are shorter than {ALIGNMENT} bytes"),
        (all(at_least(d.extent, 1) for d in block.dimensions), "it may be empty"),
        (fits, "it takes positions beyond 32 bits"),
        (_ends_only(guard, list(axes.values()), positions), "its guard says more than where its axes end"),
    )
    return next((reason for holds, reason in limits if not holds), block)


def _merged(block: Block) -> Block:
    """``block`` with fewer dimensions, where one that its tile has no part of goes on where another ends.

    Positions in a block take registers all through a loop.
    """
    for outer, inner in permutations(block.dimensions, 2):
        if _continues(outer, inner):
            start, extent = outer.start * inner.extent + inner.start, outer.extent * inner.extent
            both = replace(inner, start=start, extent=extent)
            rest = tuple(both if d is inner else d for d in block.dimensions if d is not outer)
            return _merged(replace(block, dimensions=rest))
    return block


def _continues(outer: Dimension, inner: Dimension) -> bool:
    """Whether the next position of ``outer`` lies behind the last of ``inner``, and no tile lies across the two."""
    count, length = outer.extent, inner.extent
    if outer.axis.tile != 1 or inner.axis.role == "ragged":
        return False
    if not isinstance(count, int) or not isinstance(length, int):
        return False
    return outer.stride == length * inner.stride and length % inner.tile == 0 and count * length <= LARGEST_SIZE


def _ends_only(guard: Guard, axes: Sequence[Axis], positions: Positions) -> bool:
    """Whether ``guard`` says nothing that the tensor's shape does not."""
    ends = [(axis_position(a.name, a.extent), a.extent) for a in axes]
    conditions = needed(guard, positions.space)
    return all(c.bound and any(equal(c.left, p) and equal(c.right, n) for p, n in ends) for c in conditions)
