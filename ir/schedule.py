"""A schedule: which role each axis of a region plays, and how its tiles are run. Kept as attributes of the region op,
so that IR text holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rooftile.ir.expr import Size

Role = Literal["grid", "loop", "whole", "parts"]


@dataclass(frozen=True)
class AxisRole:
    """A leaf axis of a region: its extent, its role and its tile (a power of two; for ``parts`` the number of
    parts)."""

    name: str
    extent: Size
    role: Role
    tile: int


@dataclass(frozen=True)
class Schedule:
    """Roles in nesting order, outermost first, and launch options.

    ``defs`` defines axes that were merged or split as expressions over the leaf axes: ``b = t // L, l = t % L``.
    ``grid`` names the grid axes in launch order,
    fastest first; ``group`` is ``(axis, n)``: programs of ``n`` neighbouring tiles of the axis are numbered together,
    for L2 reuse.
    """

    axes: tuple[AxisRole, ...]
    defs: Mapping[str, Size] = field(default_factory=dict)
    grid: tuple[str, ...] = ()
    group: tuple[str, int] | None = None
    num_warps: int = 4
    num_stages: int = 2

    def role(self, name: str) -> AxisRole:
        """The role of the leaf axis ``name``."""
        return next(a for a in self.axes if a.name == name)

    def attrs(self) -> dict[str, Any]:
        """The schedule as attributes of a region op."""
        return {
            "axes": tuple((a.name, a.extent) for a in self.axes),
            "defs": tuple(self.defs.items()),
            "roles": tuple((a.name, a.role, a.tile) for a in self.axes),
            "grid": self.grid,
            "group": self.group,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
        }

    @staticmethod
    def from_attrs(attrs: Mapping[str, Any]) -> Schedule:
        """The schedule that ``attrs`` (of a region op) holds."""
        extents = dict(attrs["axes"])
        roles = tuple(AxisRole(name, extents[name], role, tile) for name, role, tile in attrs["roles"])
        defs, group = dict(attrs["defs"]), attrs["group"]
        return Schedule(roles, defs, tuple(attrs["grid"]), group, attrs["num_warps"], attrs["num_stages"])

    def __str__(self) -> str:
        return ", ".join(f"{a.name}: {a.role}" + ("" if a.role == "whole" else f"({a.tile})") for a in self.axes)
