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
    """An axis with its tile, a power of two; its positions run up to the next multiple of the tile."""

    name: str
    extent: Size
    role: str
    tile: int

    @property
    def tiles(self) -> Size:
        """The number of tiles."""
        return 1 if self.role == "whole" else ceildiv(self.extent, self.tile)

    @property
    def single(self) -> bool:
        """Whether one tile covers the axis, so that its positions start at 0."""
        return self.tiles == 1

    @property
    def start(self) -> Size:
        """The first position of the tile, a multiple of the tile."""
        if self.single:
            return 0
        if isinstance(self.extent, int):
            extent: Size = (self.extent - 1) // self.tile * self.tile + 1
        else:
            extent = self.extent - self.tile + 1 if divides(self.tile, self.extent) else self.extent
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

    def with_tile(self, name: str, tile: int) -> Space:
        """The same axes, the one called ``name`` with another tile."""
        return Space(replace(axis, tile=tile) if axis.name == name else axis for axis in self.axes.values())

    def __getitem__(self, name: str) -> Axis:
        return self.axes[name]

    def __contains__(self, name: str) -> bool:
        return name in self.axes

    def split(self, size: Size, roles: frozenset[str] = frozenset({"grid", "loop", "whole", "parts"})) -> Size:
        """``size`` with each axis of one of the ``roles`` written as ``start + lane``."""
        parts = {a.name: a.start + a.lane for a in self.axes.values() if a.role in roles}
        return substitute(size, parts)

    def held(self, type: TensorType) -> tuple[str, ...]:
        """The axes that a tile of this type has as dimensions; those of size 1 are scalars."""
        return tuple(a for a, n in zip(type.axes or (), type.shape, strict=True) if n != 1)
