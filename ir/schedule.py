"""A schedule: which role each axis of a region plays, and how its tiles are run. Kept as attributes of the region op,
so that IR text holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from rooftile.ir.expr import Size

Role = Literal["grid", "ragged", "loop", "whole", "parts"]
SPREAD = ("grid", "ragged")  # roles of axes whose tiles are taken by different programs

# How a kernel runs its tiles, beside warps and stages, and the usual value of each; an attribute is kept only where it
# has another one.
#
# - ``descriptors``: tiles go between memory and the chip through tensor descriptors, wherever that is legal.
# - ``specialize``: warps of their own load what the hot loop reads.
# - ``persistent``: one program for each multiprocessor, which takes tile after tile; else one program for each tile.
# - ``flatten``: a persistent program's loop over tiles and the loop inside are made one, so that loads run ahead from a
#   tile into the next.
# - ``phases``: 2 where the steps of a sweep in which its mask holds throughout are a loop of their own, without the
#   mask; 1 where all are one loop.
# - ``epilogue``: in how many pieces, along their last axis, the results of the last loop are worked up and stored.
# - ``joined``: two products of a loop that share their first operand are one product, of twice the columns, where their
#   second ones lie at one distance from each other in memory.
# - ``tail``: in how many pieces, along the last axis of the results, the tiles are run that a persistent kernel's
#   programs have left when each has had as many as the others, where all of these pieces can run at once.
OPTIONS: Mapping[str, bool | int] = MappingProxyType(
    {
        "descriptors": False,
        "specialize": False,
        "persistent": False,
        "flatten": False,
        "phases": 1,
        "epilogue": 1,
        "joined": False,
        "tail": 1,
    }
)


def option(attrs: Mapping[str, Any], name: str) -> Any:
    """The value of an option in the attributes of a region or a kernel."""
    return attrs.get(name, OPTIONS[name])


def unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that don't have their usual value."""
    return {name: option(options, name) for name, usual in OPTIONS.items() if option(options, name) != usual}


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
    ``grid`` names the grid axes in launch order, fastest first; ``group`` is ``(axis, n)``: programs of ``n``
    neighbouring tiles of the axis are numbered together, for L2 reuse. What the options mean stands at ``OPTIONS``.
    """

    axes: tuple[AxisRole, ...]
    defs: Mapping[str, Size] = field(default_factory=dict)
    grid: tuple[str, ...] = ()
    group: tuple[str, int] | None = None
    num_warps: int = 4
    num_stages: int = 2
    descriptors: bool = False
    specialize: bool = False
    persistent: bool = False
    flatten: bool = False
    phases: int = 1
    epilogue: int = 1
    joined: bool = False
    tail: int = 1

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
            **self.options(),
        }

    def options(self) -> dict[str, Any]:
        """The options that don't have their usual value."""
        return unusual({name: getattr(self, name) for name in OPTIONS})

    @staticmethod
    def from_attrs(attrs: Mapping[str, Any]) -> Schedule:
        """The schedule that ``attrs`` (of a region op) holds."""
        extents = dict(attrs["axes"])
        roles = tuple(AxisRole(name, extents[name], role, tile) for name, role, tile in attrs["roles"])
        defs, group = dict(attrs["defs"]), attrs["group"]
        grid, warps, stages = tuple(attrs["grid"]), attrs["num_warps"], attrs["num_stages"]
        return Schedule(roles, defs, grid, group, warps, stages, **unusual(attrs))

    def __str__(self) -> str:
        return ", ".join(f"{a.name}: {a.role}" + ("" if a.role == "whole" else f"({a.tile})") for a in self.axes)
