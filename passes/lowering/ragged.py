"""Ragged axes: from the ends of segments, each program finds the one that its tile lies in and where the tile starts.

The tiles of a segment start where it does, so that its last one is cut short where the next begins. Numbered without
having been counted: segment ``s``, whose end is ``e[s]``, has the numbers before ``e[s] // tile + s + 1`` and from the
same of the segment before on. These are as many as it has tiles, or one more, which has no rows and does nothing.

Where there are fewer rows than such numbers, as while decoding, each row has one: that of the tile that starts there,
if one does. So segments without rows, which then are most, have no programs.
"""

from __future__ import annotations

from dataclasses import dataclass

from rooftile.ir.core import Op, Value, freeze_attrs
from rooftile.ir.division import floordiv
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size, axis
from rooftile.ir.polynomial import add
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.passes.lowering.arithmetic import Arithmetic
from rooftile.passes.lowering.counted import Counted, loaded_ends
from rooftile.passes.lowering.kernel import Block, Kernel, Rows
from rooftile.passes.regions.access import Access, Read, is_segment
from rooftile.passes.regions.sizes import next_power

MOST = 2**28  # a segment's number and as many rows as its tiles may have are one integer
BEYOND = 2**30  # more than there are positions, and far from where sums with it overflow


def tile_axis(name: str) -> str:
    """The axis of a kernel that numbers the tiles of the ragged axis ``name``."""
    return f"{name}_tile"


def kernel_axes(schedule: Schedule, access: Access) -> list[AxisRole]:
    """The axes that a kernel has beside those of its schedule: for a ragged one, the numbers of its tiles and of its
    segments' ends."""
    found: list[AxisRole] = []
    for name, (ends, count) in access.segments.items():
        role = schedule.role(name)
        found.append(AxisRole(tile_axis(name), tiles_at_most(role, count), "grid", 1))
        if count != 1:
            assert isinstance(count, int)
            counted = is_counted(schedule, access, name)
            found.append(AxisRole(ends, count, "whole", next_power(count + 1 if counted else count)))
    return found


def tiles_at_most(role: AxisRole, ends: Size) -> Size:
    """How many numbers the tiles of a ragged axis have, of segments with ``ends`` between them."""
    return role.extent if by_rows(role, ends) else add(add(floordiv(role.extent, role.tile), ends), 1)


def by_rows(role: AxisRole, ends: Size) -> bool:
    """Whether the tiles of a ragged axis have the numbers of the rows that they start with."""
    rows = role.extent
    return isinstance(rows, int) and isinstance(ends, int) and rows < rows // role.tile + ends + 1


def is_counted(schedule: Schedule, access: Access, name: str) -> bool:
    """Whether programs count the tiles of the ragged axis ``name``: those that take one after another, where ends are
    there to be read."""
    reads = [r for r, node in access.nodes.items() if is_segment(node)]
    _, count = access.segments[name]
    few = isinstance(count, int) and count > 1 and (count + 1) ** 2 * schedule.role(name).tile < MOST
    known = few and len({access.nodes[r].operands[0].value for r in reads}) == 1
    return schedule.persistent and known and loaded_ends(access, access.nodes[reads[0]].operands[0]) is not None


def grid_axes(schedule: Schedule) -> dict[str, object]:
    """The grid and the group of a schedule as a kernel has them: over the numbers of a ragged axis' tiles."""
    numbered = {a.name: tile_axis(a.name) for a in schedule.axes if a.role == "ragged"}
    group = schedule.group
    return {
        "grid": tuple(numbered.get(name, name) for name in schedule.grid),
        "group": group and (numbered.get(group[0], group[0]), group[1]),
    }


def place_tiles(kernel: Kernel, block: Block) -> None:
    """Place the tile of every ragged axis; what is read at its segment knows that from here on."""
    for name, (ends, count) in kernel.access.segments.items():
        reads = [r for r, node in kernel.access.nodes.items() if is_segment(node) and not kernel.access.free[r]]
        operand = kernel.access.nodes[reads[0]].operands[0]
        loaded = loaded_ends(kernel.access, operand) if is_counted(kernel.schedule, kernel.access, name) else None
        if loaded is not None:
            assert isinstance(count, int)
            group, rows = Counted(kernel, block, loaded.value.dtype, ends, loaded, count).placed(name, tile_axis(name))
            kernel.counted.add(name)
        else:
            numbers = _Numbers(kernel, block, operand.value.dtype, None if count == 1 else ends, operand)
            group, rows = numbers.placed(name, by_rows(kernel.schedule.role(name), count))
        block.ops.append(Op("place", (kernel.cast(rows.first, I64, block),), (), freeze_attrs({"axis": name})))
        kernel.rows[name] = rows
        for read in reads:
            block.known[read] = kernel.cast(group, read.value.dtype, block)


def steps_with_rows(kernel: Kernel, name: str, block: Block) -> list[Value]:
    """The range of a sweep over the axis ``name``: no step where a ragged axis' tile has no rows; nothing where there
    is no such axis."""
    if not kernel.rows or kernel.counted.issuperset(kernel.rows):
        return []
    start, stop = (kernel.add(block, "index", (), {"expr": expr, "axes": ()}) for expr in (0, kernel.access.axes[name]))
    for rows in kernel.rows.values():
        stop = kernel.pointwise("where", [kernel.pointwise("lt", [rows.first, rows.end], block), stop, start], block)
    return [start, stop]


@dataclass
class _Numbers(Arithmetic):
    """On a row of ``ends``, which varies over ``axis`` (None: there is one end)."""

    ends: Read

    def placed(self, name: str, by_rows: bool) -> tuple[Value, Rows]:
        """The segment of the program's tile of the axis ``name``, and its rows."""
        kernel, tile = self.kernel, self.kernel.tiles[name]
        ends = kernel.emit(self.ends, self.block)
        inside = kernel.within([self.axis] if self.axis else [], self.block)
        if inside:
            ends = self.do("where", kernel.inside(inside, self.block), ends, self.number(BEYOND))
        mine = self.position(axis(tile_axis(name), kernel.access.axes[tile_axis(name)]))
        behind = ends if by_rows else self.behind(ends, tile)
        passed = self.do("le", behind, mine)
        segment = self.joined("sum", kernel.cast(passed, self.dtype, self.block))
        start = self.joined("max", self.do("where", passed, ends, self.number(0)))
        start = self.do("maximum", start, self.number(0))
        end = self.joined("min", self.do("where", passed, self.number(BEYOND), ends))
        end = self.do("minimum", end, self.position(kernel.access.axes[name]))
        first = self.starting(mine, start, end, tile) if by_rows else self.ahead(mine, start, segment, tile)
        return segment, Rows(first, end)

    def behind(self, ends: Value, tile: int) -> Value:
        """The number behind those of each segment's tiles."""
        before = self.position(add(axis(self.axis, self.kernel.access.axes[self.axis]), 1) if self.axis else 1)
        return self.do("add", self.do("floordiv", ends, self.number(tile)), before)

    def ahead(self, mine: Value, start: Value, segment: Value, tile: int) -> Value:
        """The first row of the tile with number ``mine``, which lies in a segment from the row ``start`` on."""
        skipped = self.do("add", self.do("floordiv", start, self.number(tile)), segment)
        return self.do("add", start, self.do("mul", self.do("sub", mine, skipped), self.number(tile)))

    def starting(self, mine: Value, start: Value, end: Value, tile: int) -> Value:
        """The row ``mine`` if a tile of its segment starts there; else ``end``, so that there is no row."""
        inside = self.do("sub", mine, start)
        whole = self.do("mul", self.do("floordiv", inside, self.number(tile)), self.number(tile))
        return self.do("where", self.do("eq", whole, inside), mine, end)
