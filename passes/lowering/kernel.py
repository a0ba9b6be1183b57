"""A kernel while it is written: its blocks, what each of them knows, and the ops that everything is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rooftile.ir.builder import TileBuilder
from rooftile.ir.core import Op, TensorType, Value
from rooftile.ir.division import divides
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size, Symbol, axis, of, symbols
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.ir.substitution import substitute
from rooftile.passes.masks.phases import Phase
from rooftile.passes.masks.predicates import Predicates
from rooftile.passes.masks.summary import summary
from rooftile.passes.regions.access import Access, Guard, Read
from rooftile.passes.regions.compose import with_ends
from rooftile.passes.regions.contractions import loads_of_contractions
from rooftile.passes.regions.sweeps import plan_sweeps
from rooftile.passes.rules.steps import Step


@dataclass
class Block:
    """A list of ops that runs once per step of the loops in ``loops``; ``known`` holds what it (not its parents) has
    computed, ``running`` the reductions whose states so far stand in ``known``, ``checked`` the bounds of indices that
    it has checked.

    ``settled`` are values with what they are in every step that the block is run for; ``full`` the axes that these
    steps stay within the extent of.
    """

    parent: Block | None
    loops: frozenset[str]
    ops: list[Op] = field(default_factory=list)
    known: dict[Read, Value] = field(default_factory=dict)
    running: set[Read] = field(default_factory=set)
    checked: set[tuple[Size, Size]] = field(default_factory=set)
    settled: Mapping[Read, float] = field(default_factory=dict)
    full: frozenset[str] = frozenset()

    def within(self) -> Block:
        """A block that runs with this one and knows what it does, but whose own values this one doesn't know."""
        return Block(self, self.loops, self.ops, settled=self.settled, full=self.full)


@dataclass(frozen=True)
class Visits:
    """The buffer that the sweep over ``axis`` takes its steps from."""

    axis: str
    type: TensorType


@dataclass(frozen=True)
class Rows:
    """The rows of a program's tile of a ragged axis, as scalars: the first one, and the end of the segment."""

    first: Value
    end: Value


class Kernel:
    """What has been written of the kernel of ``access`` by ``schedule``: values in blocks, ``stored`` outputs,
    where its sweeps skip steps, and the ``phases`` of each that does, with what their bounds are made of.

    ``precision`` is that of fp32 dots. ``compute`` makes a read known in a block; it is handed in, since whatever
    computes a read emits its operands in turn. ``dot_only`` are the loads whose tiles lie as dots want them. ``visits``
    is the buffer that a sweep takes its steps from, and ``summary`` what it tells. ``more`` are axes beside those of
    the schedule, ``rows`` where the tiles of ragged axes lie, of those ``counted`` none without rows.
    """

    def __init__(
        self,
        access: Access,
        schedule: Schedule,
        name: str,
        precision: str,
        compute: Callable[[Kernel, Read, Block], None],
        visits: Visits | None = None,
        more: Sequence[AxisRole] = (),
    ) -> None:
        self.schedule, self.precision = schedule, precision
        self.order = {a.name: n for n, a in enumerate((*schedule.axes, *more))}
        self.tiles = {a.name: a.tile for a in (*schedule.axes, *more)}
        self.loops = frozenset(a.name for a in schedule.axes if a.role == "loop")
        self.builder = TileBuilder(name)
        self.buffers = {v: self.builder.input(v.name, v.type) for v in access.body.inputs}
        self.visits = None if visits is None else self.builder.input("visits", visits.type)
        self.outputs = [self.builder.input(v.name, v.type) for v in access.body.outputs]
        self.sweeps = plan_sweeps(access, self.loops)
        access = with_ends(self.sweeps.access)
        self.access = replace(access, axes=access.axes | {a.name: a.extent for a in more})
        self.summary = None if visits is None else summary(self.sweeps, visits.axis, schedule)
        self.dot_only = loads_of_contractions(access)
        self.rows: dict[str, Rows] = {}
        self.counted: set[str] = set()
        self.stored: set[int] = set()
        self.skips: list[Step] = []
        self.phases: list[tuple[Sequence[Phase], Predicates]] = []
        self._compute = compute

    def emit(self, read: Read, block: Block) -> Value:
        """The tile of ``read``, computed in the outermost block that can."""
        home = self.block_for(read, block)
        if read not in home.known:
            self._compute(self, read, home)
        return home.known[read]

    def block_for(self, read: Read, block: Block) -> Block:
        """The outermost block around ``block`` whose loops run over every loop axis that ``read`` varies over, and
        which knows the states that it depends on."""
        needed, states = self.access.free[read] & self.loops, self.sweeps.depends[read]
        while block.parent is not None and needed <= block.parent.loops and not block.running & states:
            block = block.parent
        return block

    def axes_in(self, exprs: Iterable[Size]) -> list[str]:
        """The axes that stand in the expressions, in nesting order."""
        names = {s.name for e in exprs for s in symbols(e) if s.name in self.order}
        return sorted(names, key=self.order.__getitem__)

    def held(self, names: frozenset[str]) -> tuple[tuple[str, int], ...]:
        """The axes of ``names`` that a tile of them holds, in nesting order, with their tiles."""
        return tuple((n, self.tiles[n]) for n in sorted(names, key=self.order.__getitem__) if self.tiles[n] > 1)

    def within(self, names: Iterable[str], block: Block) -> Guard:
        """That each of the axes is within its extent, for those whose last tile may reach beyond."""
        extents = ((n, self.access.axes[n]) for n in names if n not in block.full)
        return tuple(
            (axis(n, extent), extent) for n, extent in extents if n in self.rows or not divides(self.tiles[n], extent)
        )

    def with_indices(
        self, exprs: Sequence[Size], reads: Mapping[str, Read], block: Block
    ) -> tuple[list[Size], tuple[Value, ...]]:
        """``exprs`` with the symbols that stand for ``reads`` renamed to ``idx1``, ``idx2``, ..., and the tiles that
        these stand for."""
        names: dict[str, Size] = {name: of(Symbol(f"idx{n}")) for n, name in enumerate(reads, start=1)}
        return [substitute(e, names) for e in exprs], tuple(self.emit(r, block) for r in reads.values())

    def inside(self, case: Guard, block: Block) -> Value:
        """Whether ``case`` holds, for every position that it mentions."""
        indirect = self.access.indirect
        reads = {s.name: indirect[s.name] for e, _ in case for s in symbols(e) if s.name in indirect}
        free = {*self.axes_in(e for e, _ in case), *(a for r in reads.values() for a in self.access.free[r])}
        exprs, operands = self.with_indices([e for e, _ in case], reads, block)
        guard = tuple((e, n) for e, (_, n) in zip(exprs, case, strict=True))
        return self.add(block, "inside", operands, {"guard": guard, "axes": self.held(frozenset(free))})

    def number(self, value: float, dtype: DType, block: Block) -> Value:
        """A constant without axes."""
        return self.add(block, "constant", (), {"value": value, "dtype": dtype, "axes": ()})

    def pointwise(self, fn: str, values: Sequence[Value], block: Block) -> Value:
        """``fn`` of tiles that may hold different axes; the result holds them all."""
        axes = self.held(frozenset(a for v in values for a in v.type.axes or ()))
        return self.add(block, "pointwise", values, {"fn": fn, "axes": axes})

    def cast(self, value: Value, dtype: DType, block: Block) -> Value:
        """``value`` in ``dtype``: itself where it has that."""
        return value if value.dtype is dtype else self.add(block, "cast", (value,), {"dtype": dtype})

    def add(
        self, block: Block, op: str, inputs: Sequence[Value], attrs: dict[str, Any], name: str | None = None
    ) -> Value:
        """Put an op down at the end of ``block``."""
        before, self.builder.ops = self.builder.ops, block.ops
        try:
            return self.builder.op(op, inputs, attrs, name=name)
        finally:
            self.builder.ops = before
