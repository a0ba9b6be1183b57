"""Two products of a loop that share their first operand, multiplied as one.

Their second operands are loaded as one block, with one dimension more, which leads from the one to the other: where
both are parts of one buffer it is a stride known beforehand, else the host finds out how far apart the buffers lie. The
loop then has one accumulator with the columns of both, and matrix units are fed in tiles as wide as one product has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from rooftile.codegen.align import transposed
from rooftile.codegen.descriptors import MOST_RANK, Block, Dimension
from rooftile.codegen.expressions import TRITON_TYPE
from rooftile.codegen.memory import Memory
from rooftile.codegen.products import product_text
from rooftile.codegen.space import Axis
from rooftile.codegen.statements import Assign
from rooftile.codegen.tile import Tile
from rooftile.codegen.values import Values
from rooftile.ir.blocks import ALIGNMENT
from rooftile.ir.core import Op, Value
from rooftile.ir.division import divides
from rooftile.ir.dtypes import F32
from rooftile.ir.polynomial import add, mul
from rooftile.ir.tile_ops import loop_starts, values_read

MOST_COLUMNS = 256  # of both products together


@dataclass(frozen=True)
class Halves:
    """The blocks of two loads as one: ``block``, of ``buffer``, has a first dimension of two. ``reversed``: the second
    load's comes first in it. With ``other``, a buffer of its own, which comes first is known at a launch."""

    buffer: Value
    block: Block
    reversed: bool = False
    other: Value | None = None


def joined_in(loop: Op, values: Values, memory: Memory) -> Joined | None:
    """The products of ``loop`` that are to be one; None where no two can be."""
    for dots, loads in _pairs(loop, values):
        columns = sum(values.space[values.held(op.output)[0]].tile for op in loads)
        halves = _halves(loads, memory) if columns <= MOST_COLUMNS else None
        if halves is not None and len(halves.block.dimensions) <= MOST_RANK:
            return Joined(dots, loads, halves, values, memory)
    return None


def _pairs(loop: Op, values: Values) -> Iterator[tuple[tuple[Op, Op], tuple[Op, Op]]]:
    """Two dots of a loop's body each that could be one, and the loads of their second operands."""
    (body,) = loop.regions
    reads = Counter(v for op in body.ops for v in values_read(op))
    reads.update(body.outputs)
    loads = {op.output: op for op in body.ops if op.name == "load" and reads[op.output] == 1}
    states = dict(zip(body.inputs, zip(loop_starts(loop), body.outputs, strict=True), strict=True))

    def summed(op: Op) -> bool:
        """Whether a dot does nothing but add to a sum of the loop, of products with what is loaded for it."""
        if op.name != "dot" or len(op.inputs) < 3 or op.inputs[1] not in loads or op.inputs[2] not in states:
            return False
        if op.inputs[1].dtype is F32:
            return False
        start, after = states[op.inputs[2]]
        alone = after is op.output and reads[op.output] == reads[op.inputs[2]] == 1
        return alone and values.tiles[start].number == 0 and values.held(op.inputs[1])[1:] == (op.attrs["axis"],)

    for first, second in combinations(filter(summed, body.ops), 2):
        if first.inputs[0] is second.inputs[0] and first.attrs == second.attrs:
            yield (first, second), (loads[first.inputs[1]], loads[second.inputs[1]])


def _halves(loads: tuple[Op, Op], memory: Memory) -> Halves | None:
    """The blocks of two loads as one; None where nothing tells how far apart they lie."""
    first, second = (op.inputs[0] for op in loads)
    block, behind = (memory.block(op) for op in loads)
    if block is None or behind is None or block.dimensions != behind.dimensions:
        return None
    if loads[0].inputs[1:] != loads[1].inputs[1:] or not memory.made_by_host(block):
        return None
    distance = add(behind.base, mul(block.base, -1))
    if first is not second:
        alike = distance == 0 and first.type == second.type and first.type.strides is None
        return Halves(first, _doubled(block, 0), other=second) if alike else None
    if not isinstance(distance, int) or not distance or not divides(ALIGNMENT // first.dtype.bytes, distance):
        return None
    return Halves(first, _doubled(block if distance > 0 else behind, abs(distance)), reversed=distance < 0)


def _doubled(block: Block, distance: int) -> Block:
    """``block`` and the one as far behind it in memory."""
    half = Dimension(Axis("half", 2, "whole", 2), 2, 2, 0, distance)
    return replace(block, dimensions=(half, *block.dimensions))


class Joined:
    """Two ``dots`` of a loop's body, with the ``loads`` of their second operands, as they are written: as one."""

    def __init__(
        self, dots: tuple[Op, Op], loads: tuple[Op, Op], halves: Halves, values: Values, memory: Memory
    ) -> None:
        self.ops = (*loads, *dots)
        self.buffers = tuple(memory.name(op.inputs[0]).removesuffix("_ptr") for op in loads)
        self.states = tuple(op.inputs[2] for op in dots)
        self._dot, self._halves = dots[0], halves
        self._values, self._memory = values, memory
        fresh, names = values.writer.names.fresh, values.names
        self._operand = fresh(f"{names[loads[0].output]}_joined")
        self._sums = fresh(f"{names[self.states[0]]}_joined")
        self._loaded = self._multiplied = False

    def start(self) -> None:
        """Set the accumulator to zero."""
        rows, columns = self._tiles()
        self._assign(self._sums, f"tl.zeros([{rows}, {2 * columns}], {TRITON_TYPE[self._dot.output.dtype]})")

    def write(self, op: Op) -> None:
        """Write one of ``ops``: what is loaded in the place of the first load, the product in that of the first dot."""
        if op.name == "load":
            if not self._loaded:
                self._load(self.ops[0])
            self._loaded = True
            return
        if not self._multiplied:
            self._multiply()
        self._multiplied = True
        state = self._values.names[op.inputs[2]]
        self._values.tiles[op.output] = Tile(state, self._values.held(op.output), op.output.dtype)

    def finish(self) -> None:
        """Take the results out of the accumulator; what each thread has of them it had already."""
        rows, columns = self._tiles()
        apart = f"tl.split(tl.permute(tl.reshape({self._sums}, [{rows}, 2, {columns}]), (0, 2, 1)))"
        results = [self._values.names[state] for state in self.states]
        if self._halves.other is None:
            self._assign(", ".join(reversed(results) if self._halves.reversed else results), apart)
            return
        lower, upper = (self._values.writer.names.fresh(f"{self._sums}_{half}") for half in ("lower", "upper"))
        self._assign(f"{lower}, {upper}", apart)
        behind = self._second_first()
        self._assign(results[0], f"tl.where({behind}, {upper}, {lower})")
        self._assign(results[1], f"tl.where({behind}, {lower}, {upper})")

    def _load(self, op: Op) -> None:
        memory, halves = self._memory, self._halves
        self._values.bind(op.inputs[1:])
        rows, depth = (self._values.space[a].tile for a in self._values.held(op.output))
        other = None if halves.other is None else memory.name(halves.other)
        block = memory.block_text(memory.descriptor(halves.buffer, halves.block, other), halves.block)
        self._assign(self._operand, f"tl.reshape({block}, [{2 * rows}, {depth}])", self._values.comment(op.output))

    def _multiply(self) -> None:
        dot, values = self._dot, self._values
        left, axis = dot.inputs[0], dot.attrs["axis"]
        rows = next(a for a in values.held(left) if a != axis)
        shared = transposed(values.full(left), values.held(left), (rows, axis))
        text = product_text(dot, shared, f"tl.trans({self._operand})", self._sums, values.space)
        self._assign(self._sums, text, values.comment(dot.output))

    def _tiles(self) -> tuple[int, int]:
        """The rows and columns of one result."""
        rows, columns = (self._values.space[a].tile for a in self._values.held(self._dot.output))
        return rows, columns

    def _second_first(self) -> str:
        """Whether the second load's buffer lies before the first one's."""
        first, second = (self._memory.name(v) for v in (self._halves.buffer, self._halves.other) if v is not None)
        return self._values.writer.shared("swapped", f"tl.cast({second}, tl.int64) < tl.cast({first}, tl.int64)", 0)

    def _assign(self, target: str, text: str, comment: str = "") -> None:
        self._values.writer.add(Assign(target, text, comment and f"{comment}, twice"))
