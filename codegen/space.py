"""The axes of a kernel: which role each plays, and its positions as ``start + lane`` of the current tile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rooftile.ir.core import Graph, TensorType
from rooftile.ir.division import ceildiv, divides
from rooftile.ir.expr import Size, Symbol, of
from rooftile.ir.substitution import substitute

LANE, START = ".lane", ".start"  # suffixes of the symbols that an axis splits into; no IR name holds a dot


@dataclass(frozen=True)
class Axis:
    """An axis with its tile, a power of two; its positions run up to the next multiple of ``span``.

    That is the tile, unless this is a piece of a larger one.
    """

    name: str
    extent: Size
    role: str
    tile: int
    larger: int = 0

    @property
    def span(self) -> int:
        return self.larger or self.tile

    @property
    def tiles(self) -> Size:
        """The number of tiles."""
        return 1 if self.role == "whole" else ceildiv(self.extent, self.tile)

    @property
    def single(self) -> bool:
        """Whether one tile covers the axis, so that its positions start at 0."""
        return not self.larger and self.tiles == 1 and self.role != "ragged"

    @property
    def start(self) -> Size:
        """The first position of the tile, a multiple of the tile but along a ragged axis."""
        if self.single:
            return 0
        if self.role == "ragged":
            return of(Symbol(self.name + START, self.extent + self.tile))
        beyond = self.span - self.tile  # from the last tile's start to the end, without the tile itself
        if isinstance(self.extent, int):
            extent: Size = (self.extent - 1) // self.span * self.span + beyond + 1
        else:
            extent = self.extent - self.tile + 1 if divides(self.span, self.extent) else self.extent + beyond
        return of(Symbol(self.name + START, extent, divisor=self.tile))

    @property
    def lane(self) -> Size:
        """The position within the tile."""
        return 0 if self.tile == 1 else of(Symbol(self.name + LANE, self.tile))


class Space:
    """The axes of one kernel, by name."""

    def __init__(self, axes: Iterable[Axis]) -> None:
        self.axes: dict[str, Axis] = {axis.name: axis for axis in axes}

    @staticmethod
    def of(kernel: Graph) -> Space:
        """The axes of a tile-level graph."""
        return Space(Axis(*row) for row in kernel.attrs["axes"])

    def with_pieces(self, name: str, count: int) -> Space:
        """The same axes, the tiles of the one called ``name`` cut into ``count`` pieces."""
        axis = self[name]
        piece = replace(axis, tile=axis.tile // count, larger=axis.span)
        return Space(piece if a.name == name else a for a in self.axes.values())

    def __getitem__(self, name: str) -> Axis:
        return self.axes[name]

    def __contains__(self, name: str) -> bool:
        return name in self.axes

    def split(self, size: Size, roles: frozenset[str] | None = None) -> Size:
        """``size`` with each axis, or each of one of the ``roles``, written as ``start + lane``."""
        parts = {a.name: a.start + a.lane for a in self.axes.values() if roles is None or a.role in roles}
        return substitute(size, parts)

    def held(self, type: TensorType) -> tuple[str, ...]:
        """The axes that a tile of this type has as dimensions; those of size 1 are scalars."""
        return tuple(a for a, n in zip(type.axes or (), type.shape, strict=True) if n != 1)
