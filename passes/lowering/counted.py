"""Tiles of a ragged axis that are counted: number by number those that have rows, for programs that take one after
another.

Segment ``s`` of ``l[s]`` rows has ``ceil(l[s] / tile)`` tiles, and the numbers behind those of the segments before it.
That takes a running sum over the segments, once for all of a program's tiles. In return no number is without rows, so
that every tile takes the same steps, and a loop over tiles and their steps is one. What a tile needs to know comes from
one look at all segments, since for each of them its number and how many rows of the tiles so far are empty are one
integer: both never decrease.
"""

from __future__ import annotations

from dataclasses import dataclass

from rooftile.ir.core import Op, Value, freeze_attrs
from rooftile.ir.expr import Size, Symbol, axis, of
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.polynomial import add
from rooftile.ir.substitution import substitute
from rooftile.passes.lowering.arithmetic import Arithmetic
from rooftile.passes.lowering.kernel import Rows
from rooftile.passes.regions.access import Access, Read


def loaded_ends(access: Access, read: Read) -> Read | None:
    """The buffer that the ends of segments are read from, at the index of one; None where they are computed."""
    node = access.nodes[read]
    while node.op is not None:
        if not GRAPH_OPS[node.op.name].view or len(node.operands) != 1 or node.cases:
            return None
        (read,) = node.operands
        node = access.nodes[read]
    return None if read.guard or access.index_reads(read) else read


@dataclass
class Counted(Arithmetic):
    """On the ends of segments, which lie along ``axis``, ``count`` of them; the last segment ends where the rows do."""

    axis: str
    read: Read
    count: int

    def placed(self, name: str, numbers: str) -> tuple[Value, Rows]:
        """The segment of the tile of the axis ``name`` whose number is the position along ``numbers``, and its rows."""
        kernel, tile = self.kernel, self.kernel.tiles[name]
        rows = self.position(kernel.access.axes[name])
        at = axis(self.axis, self.count)
        ends = self.do("where", self._inside(at), self.do("minimum", self._ends(self.read, 0), rows), rows)
        starts = self.do("where", self._inside(add(at, -1)), self._ends(self.read, -1), self._before(at, rows))
        length = self.do("maximum", self.do("sub", ends, starts), self.number(0))
        tiles = self.do("floordiv", self.do("add", length, self.number(tile - 1)), self.number(tile))
        behind = kernel.add(self.block, "scan", (tiles,), {"fn": "sum", "axis": self.axis})
        count = self.joined("max", behind)
        beyond = self.do("sub", self.do("mul", behind, self.number(tile)), ends)
        step = 1 << ((self.count + 1) * tile).bit_length()
        both = self.do("add", self.do("mul", self.position(add(at, 1)), self.number(step)), beyond)
        self.block.ops.append(Op("count", (count,), (), freeze_attrs({"axis": numbers})))
        mine = self.position(axis(numbers, kernel.access.axes[numbers]))
        passed = self.do("le", behind, mine)
        last = self.joined("max", self.do("where", passed, both, self.number(0)))
        segment = self.do("floordiv", last, self.number(step))
        empty = self.do("sub", last, self.do("mul", segment, self.number(step)))
        first = self.do("sub", self.do("mul", mine, self.number(tile)), empty)
        return segment, Rows(first, self._end(segment, rows))

    def _end(self, segment: Value, rows: Value) -> Value:
        """Where the segment with a number ends."""
        number = of(Symbol("idx1"))
        index = tuple(substitute(e, {self.axis: number}) for e in self.read.index)
        attrs = {"index": index, "axes": (), "guard": ((number, self.count),), "fill": 0.0}
        buffer = self.kernel.buffers[self.read.value]
        end = self.kernel.add(self.block, "load", (buffer, segment), attrs, name=self.read.value.name)
        inside = self.do("lt", segment, self.number(self.count))
        return self.do("where", inside, self.do("minimum", end, rows), rows)

    def _before(self, at: Size, rows: Value) -> Value:
        """Where a segment starts before which no end is read: the first at zero, those behind the last have no rows."""
        none = self.do("eq", self.position(at), self.number(0))
        return self.do("where", none, self.number(0), rows)

    def _ends(self, read: Read, offset: int) -> Value:
        """The ends, each in the place of the one ``offset`` behind it."""
        at = axis(self.axis, self.count)
        moved = add(at, offset)
        index = tuple(substitute(e, {self.axis: moved}) for e in read.index)
        attrs = {
            "index": index,
            "axes": self.kernel.held(frozenset({self.axis})),
            "guard": ((moved, self.count),),
            "fill": 0.0,
        }
        buffer = self.kernel.buffers[read.value]
        return self.kernel.add(self.block, "load", (buffer,), attrs, name=read.value.name)

    def _inside(self, at: Size) -> Value:
        attrs = {"guard": ((at, self.count),), "axes": self.kernel.held(frozenset({self.axis}))}
        return self.kernel.add(self.block, "inside", (), attrs)
