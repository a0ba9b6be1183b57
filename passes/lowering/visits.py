"""Sweeps that take their steps from a summary of their mask: a program loops over the numbers of the steps that it
visits, and each step's tile is placed where the summary says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rooftile.ir.core import Op, Value, freeze_attrs
from rooftile.ir.dtypes import I64
from rooftile.ir.expr import Size, Symbol, axis, of
from rooftile.ir.polynomial import add
from rooftile.ir.schedule import AxisRole
from rooftile.ir.visits import ENDS
from rooftile.passes.lowering.kernel import Block, Kernel
from rooftile.passes.masks.elements import count
from rooftile.passes.masks.phases import Phase
from rooftile.passes.masks.summary import Summary
from rooftile.passes.regions.access import Read
from rooftile.passes.rules.steps import Step


def step_axis(summary: Summary) -> AxisRole:
    """The axis of a kernel that numbers the steps which a program visits."""
    return AxisRole(f"{summary.axis}_step", count(summary.cuts[summary.axis]), "loop", 1)


@dataclass
class Visiting:
    """The sweep of ``summary``, whose loops stand in ``block``; ``step`` is the first that is not visited yet."""

    kernel: Kernel
    summary: Summary
    block: Block
    step: Value = field(init=False)
    _row: list[Size] = field(default_factory=list)  # the index of the program's row
    _tiles: list[Value] = field(default_factory=list)  # the numbers in it

    def __post_init__(self) -> None:
        for cut in self.summary.cuts.values():
            if cut.name == self.summary.axis:
                continue
            if cut.tile == 1:
                self._row.append(axis(cut.name, cut.extent))
                continue
            first = self.kernel.add(self.block, "first", (), {"axis": cut.name})
            tile = {"expr": of(Symbol("idx1")) // cut.tile, "axes": ()}
            self._tiles.append(self.kernel.add(self.block, "index", (first,), tile))
            self._row.append(of(Symbol(f"idx{len(self._tiles)}")))
        self.step = self._load(ENDS, "step", self.block)

    def phases(self) -> list[tuple[Phase, tuple[Value, Value]]]:
        """The phases of the sweep, each with the numbers of its first step and behind its last."""
        s = self.summary
        settled = {mask.read: mask.neutral for mask in s.masks}
        start, visited = self._number(0), self._end(1)
        bare = self._end(0) if settled else start
        found = [(Phase("bare", None, settled, full=True), (start, bare))] if settled else []
        found.append((Phase("masked", None), (bare, visited)))
        if s.found.reached:
            steps = self._number(count(s.cuts[s.axis]))
            found.append((Phase("rest", None, unless=s.found.reached), (visited, steps)))
        return found

    def place(self, step: Value, body: Block) -> tuple[list[Op], Value]:
        """What stands in front of a loop's ``body``: the tile of the swept axis placed at the step that is carried, and
        the step after it, which is read one step ahead of what is loaded there."""
        head = Block(self.block, body.loops)
        tile = self.kernel.tiles[self.summary.axis]
        start = self.kernel.add(head, "index", (step,), {"expr": of(Symbol("idx1")) * tile, "axes": ()})
        head.ops.append(Op("place", (start,), (), freeze_attrs({"axis": self.summary.axis})))
        number = step_axis(self.summary)
        return head.ops, self._load(add(axis(number.name, number.extent), ENDS + 1), "step", head)

    def stages(self, ops: Sequence[Op]) -> int | None:
        """How many stages a loop of ``ops`` has, in which the mask holds, where these are not the kernel's.

        Triton keeps each stage's tiles in shared memory, a mask's rows too. Where descriptors fill that with operands,
        these would not let as many programs share a multiprocessor, and few steps are masked.
        """
        schedule, placed = self.kernel.schedule, self.summary.axis
        rows = [op for op in ops if op.name == "load" and [name for name, _ in op.attrs["axes"]] == [placed]]
        return max(1, schedule.num_stages - 1) if schedule.descriptors and rows else None

    def _end(self, slot: int) -> Value:
        name = ("bare", "visited")[slot]
        return self.kernel.cast(self._load(slot, name, self.block), I64, self.block)

    def _number(self, size: Size) -> Value:
        return self.kernel.add(self.block, "index", (), {"expr": size, "axes": ()})

    def _load(self, slot: Size, name: str, block: Block) -> Value:
        """An entry of the program's row of the summary."""
        assert self.kernel.visits is not None
        attrs = {"index": (*self._row, slot), "axes": (), "guard": (), "fill": None}
        return self.kernel.add(block, "load", (self.kernel.visits, *self._tiles), attrs, name=name)

    def skip_step(self, members: Sequence[Read]) -> Step:
        """The application of rule Skip: which steps are left, and who tells."""
        s = self.summary
        names = ", ".join(f"%{m.value.name}" for m in members)
        hiding = ", ".join(f"%{mask.read.value.name}" for mask in s.found.masks.values())
        tiles = " and ".join(f"{cut.tile} of {name}" if cut.tile > 1 else name for name, cut in s.cuts.items())
        after = f"those in which {hiding} leaves something, told by %visits for each {tiles}"
        after += "; first those in which nothing is hidden, without it" if s.masks else ""
        reached = " and ".join(f"%{r.value.name} has reached {low:g}" for r, (low, _) in s.found.reached.items())
        after += f"; at last the others unless {reached}" if reached else ""
        return Step("skip", f"{names} over every {s.axis} < {s.access.axes[s.axis]}", after)
