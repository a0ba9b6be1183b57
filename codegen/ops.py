"""Tile-level ops -> statements: one method for each op of ``rooftile.ir.tile_ops``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rooftile.codegen import expressions
from rooftile.codegen.align import transposed
from rooftile.codegen.descriptors import Carriers
from rooftile.codegen.expressions import ACCURATE, POINTWISE, REDUCTIONS, SCANS, Row, apply
from rooftile.codegen.guards import needed
from rooftile.codegen.joined import Joined, joined_in
from rooftile.codegen.memory import Memory
from rooftile.codegen.products import product_text
from rooftile.codegen.space import Axis
from rooftile.codegen.statements import Assign, Call
from rooftile.codegen.tile import Tile, number_tile
from rooftile.codegen.values import Values
from rooftile.errors import InternalError
from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import I32, I64
from rooftile.ir.text import quoted
from rooftile.ir.tile_ops import loop_ranges, loop_starts
from rooftile.ir.visits import placed_axis

LEAST_DOT_DEPTH = {1: 32, 2: 16, 4: 16, 8: 16}  # the fewest elements that a dot may sum over, by bytes of an element


class OpWriter:
    """Writes the statements of a kernel's ops; ``buffers`` are the pointers' names, ``carriers`` and ``persistent`` as
    in ``Memory``. One that ``joins`` writes two products of a loop as one where it can."""

    def __init__(
        self,
        values: Values,
        buffers: Mapping[Value, str],
        carriers: Carriers | None,
        persistent: bool,
        joins: bool = False,
    ) -> None:
        self._values = values
        self._positions = values.positions
        self._space = values.space
        self._writer = values.writer
        self._names = values.names
        self._tiles = values.tiles
        self._memory = Memory(values, buffers, carriers, persistent)
        self._accurate = not any(v.dtype.is_float and v.dtype.bytes < 4 for v in buffers)
        self._joins = joins
        self._joined: dict[Op, Joined] = {}
        self.joined: list[tuple[str, ...]] = []  # the buffers of second operands that are read as one

    def block(self, ops: Sequence[Op]) -> None:
        """Write ``ops`` in order.

        Raises:
            InternalError: an op has no Triton text as it stands; the message names the op.
        """
        for op in ops:
            method = getattr(self, f"_{op.name}", None)
            if method is None:
                raise InternalError(f"no Triton text for the tile op {op.name}")
            self._positions.bind_indices({})
            if op in self._joined:
                self._joined[op].write(op)
            else:
                method(op)

    # Memory

    def _load(self, op: Op) -> None:
        self._memory.load(op)

    def _store(self, op: Op) -> None:
        self._memory.store(op)

    # Positions

    def _index(self, op: Op) -> None:
        self._values.bind(op.inputs)
        size = op.attrs["expr"]
        arithmetic = self._positions.arithmetic
        if isinstance(size, int):
            self._tiles[op.output] = number_tile(size, I64)
            return
        axes = tuple(a for a in self._values.held(op.output) if a in arithmetic.axes(size))
        text = arithmetic.text(size, axes)
        if arithmetic.wide(size):
            self._values.define(op, text, axes)
            return
        if not text.isidentifier():
            self._values.define(op, text, axes, I32)
            text = self._tiles[op.output].text
        widened = f"{text}.to(tl.int64)" if axes else f"tl.cast({text}, tl.int64)"
        self._tiles[op.output] = Tile(widened, axes, I64, self._writer.depth, narrow=text)

    def _inside(self, op: Op) -> None:
        self._values.bind(op.inputs)
        conditions = needed(op.attrs["guard"], self._space)
        arithmetic = self._positions.arithmetic
        varying = {a for c in conditions for side in (c.left, c.right) for a in arithmetic.axes(side)}
        axes = tuple(a for a in self._values.held(op.output) if a in varying)
        mask = self._memory.addresses.mask(conditions, axes)
        if not mask:
            self._tiles[op.output] = number_tile(True, op.output.dtype)
        elif mask.isidentifier():
            self._tiles[op.output] = Tile(mask, axes, op.output.dtype, self._writer.depth)
        else:
            self._values.define(op, mask, axes)

    def _first(self, op: Op) -> None:
        start = self._space[op.attrs["axis"]].start
        if isinstance(start, int):
            self._tiles[op.output] = number_tile(start, I64)
        else:
            self._values.define(op, f"tl.cast({self._positions.arithmetic.text(start, ())}, tl.int64)", ())

    def _place(self, op: Op) -> None:
        axis, (at,) = self._space[op.attrs["axis"]], op.inputs
        name = self._positions.start_name(axis.name)
        text, comment = self._position(at, axis), f"{axis.name} < {axis.extent}"
        if axis.role == "loop":
            text = f"tl.multiple_of({text}, {axis.tile})"
        self._writer.add(Assign(name, text, comment))
        self._positions.place(axis.name, name, self._writer.depth)

    def _check(self, op: Op) -> None:
        tile = self._tiles[op.inputs[0]]
        if tile.number is not True:
            self._writer.add(Call(f"tl.device_assert({tile.text}, {quoted(op.attrs['message'])})"))

    # Values from values

    def _constant(self, op: Op) -> None:
        self._tiles[op.output] = number_tile(op.attrs["value"], op.output.dtype)

    def _cast(self, op: Op) -> None:
        tile, target = self._tiles[op.inputs[0]], op.output.dtype
        text, source = (tile.text, tile.dtype) if tile.narrow is None else (tile.narrow, I32)
        if tile.number is not None:
            self._tiles[op.output] = number_tile(tile.number, target)
        elif source is target:
            self._tiles[op.output] = Tile(text, tile.axes, target, tile.depth)
        else:
            self._values.define(op, expressions.cast(text, source, target), tile.axes)

    def _pointwise(self, op: Op) -> None:
        name = op.attrs["fn"]
        tiles = [self._tiles[v] for v in op.inputs]
        values = range(1, len(tiles)) if name == "where" else range(len(tiles))
        row, dtype = POINTWISE.get(name), tiles[-1].dtype
        row = ACCURATE.get(name, row) if self._accurate else row
        axes = tuple(a for a in self._values.held(op.output) if any(a in t.axes for t in tiles))
        texts = [t.aligned(axes) for t in tiles]
        if all(tiles[n].number is not None for n in values):
            texts[values[0]] = tiles[values[0]].full((), self._space)
        if name == "where" and tiles[0].number is not None:
            texts[0] = tiles[0].full((), self._space)
        for n in values:
            texts[n] = self._to_computation(texts[n], tiles[n], row)
        self._values.define(op, apply(row, name, texts, dtype, op.output.dtype), axes)

    def _to_computation(self, text: str, tile: Tile, row: Row | None) -> str:
        """``text`` in the type in which ``row`` is computed; a literal takes the type of what it meets."""
        if row is None or tile.number is not None:
            return text
        return expressions.cast(text, tile.dtype, expressions.computation_type(row, tile.dtype))

    # Along an axis

    def _reduce(self, op: Op) -> None:
        kept = tuple(a for a in self._values.held(op.inputs[0]) if a != op.attrs["axis"])
        self._along(op, REDUCTIONS.get(op.attrs["fn"]), kept)

    def _scan(self, op: Op) -> None:
        self._along(op, SCANS.get(op.attrs["fn"]), self._values.held(op.inputs[0]))

    def _along(self, op: Op, row: Row | None, result: tuple[str, ...]) -> None:
        (value,), axis = op.inputs, op.attrs["axis"]
        held = self._values.held(value)
        if axis not in held:
            self._define_single(op)
            return
        operands = [self._to_computation(self._values.full(value), Tile("", (), value.dtype), row)]
        positions = Tile(self._lanes(axis), (axis,), I64).full(held, self._space)
        text = apply(row, op.attrs["fn"], [*operands, positions], value.dtype, op.output.dtype, held.index(axis))
        self._values.define(op, text, result)

    def _lanes(self, axis: str) -> str:
        return f"tl.arange(0, {self._space[axis].tile})"

    def _define_single(self, op: Op) -> None:
        """A reduction or scan over an axis with a tile of 1: the operand itself, or position 0."""
        tile = self._tiles[op.inputs[0]]
        if op.output.dtype is not tile.dtype:
            self._tiles[op.output] = number_tile(0, op.output.dtype)
        elif tile.number is not None:
            self._tiles[op.output] = tile
        else:
            self._values.define(op, tile.text, tile.axes)

    def _dot(self, op: Op) -> None:
        left, right, *start = op.inputs
        axis = op.attrs["axis"]
        m, n = self._dot_axes(op)
        rows = transposed(self._values.full(left), self._values.held(left), (m, axis))
        columns = transposed(self._values.full(right), self._values.held(right), (axis, n))
        so_far = ""
        if start and self._tiles[start[0]].number != 0:
            so_far = self._tiles[start[0]].full((m, n), self._space)
        self._values.define(op, product_text(op, rows, columns, so_far, self._space), (m, n))

    def _dot_axes(self, op: Op) -> tuple[str, str]:
        """The axes of a dot's rows and columns.

        Raises:
            InternalError: a tile is smaller than matrix units take.
        """
        left, right, axis = op.inputs[0], op.inputs[1], op.attrs["axis"]
        rest = [a for v in (left, right) for a in self._values.held(v) if a != axis]
        least = LEAST_DOT_DEPTH[left.dtype.bytes]
        if len(rest) != 2 or self._space[axis].tile < least:
            shapes = [[self._space[a].tile for a in self._values.held(v)] for v in (left, right)]
            raise InternalError(f"a dot of tiles {shapes} over {axis}: it takes two axes each, {least} steps at least")
        return rest[0], rest[1]

    def _count(self, op: Op) -> None:
        """The grid has it."""

    # Loops

    def _loop(self, op: Op) -> None:
        (body,) = op.regions
        axis = self._space[op.attrs["axis"]]
        joined = joined_in(op, self._values, self._memory) if self._joins else None
        if joined is not None:
            self._joined |= dict.fromkeys(joined.ops, joined)
            self.joined.append(joined.buffers)
            joined.start()
        for start, state in zip(loop_starts(op), body.inputs, strict=True):
            if joined is None or state not in joined.states:
                self._enter(start, state)
        if axis.single and not op.attrs["ranges"]:
            self._steps(op)
        else:
            with self._tiles_of(axis, op) as name:
                self._positions.place(axis.name, name, self._writer.depth)
                for state in body.inputs:
                    self._tiles[state] = self._state_tile(state)
                self._steps(op)
            for placed in (axis.name, placed_axis(op)):
                if placed is not None:
                    self._positions.leave(placed)
        for result, state in zip(op.outputs, body.inputs, strict=True):
            self._tiles[result] = self._state_tile(state)
        if joined is not None:
            joined.finish()

    @contextmanager
    def _tiles_of(self, axis: Axis, op: Op) -> Iterator[str]:
        """A loop over the tiles of ``axis`` that ``op`` runs over, several ranges end to end; its variable, the tile's
        first position."""
        name, comment = self._positions.start_name(axis.name), f"{axis.name} < {axis.extent}"
        ends = [(self._position(first, axis), self._position(end, axis)) for first, end in loop_ranges(op)]
        options = () if op.attrs["stages"] is None else (f"num_stages={op.attrs['stages']}",)
        if len(ends) < 2:
            start, stop = ends[0] if ends else ("0", self._positions.arithmetic.text(axis.extent, ()))
            with self._writer.loop(name, start, stop, axis.tile, comment, options):
                if ends and axis.tile > 1:
                    self._writer.add(Assign(name, f"tl.multiple_of({name}, {axis.tile})"))
                yield name
            return
        step = self._writer.names.fresh(f"{name}_step")
        stops = [self._end_of_steps(axis, ends[: number + 1]) for number in range(len(ends))]
        with self._writer.loop(step, "0", stops[-1], 1, comment, options):
            text = f"{ends[-1][0]} + ({step} - {stops[-2]}) * {axis.tile}"
            for number in range(len(ends) - 2, -1, -1):
                before = f"({step} - {stops[number - 1]})" if number else step
                text = f"tl.where({step} < {stops[number]}, {ends[number][0]} + {before} * {axis.tile}, {text})"
            self._writer.add(Assign(name, f"tl.multiple_of({text}, {axis.tile})"))
            yield name

    def _end_of_steps(self, axis: Axis, ends: Sequence[tuple[str, str]]) -> str:
        """A variable that holds how many steps the ranges ``ends`` take together."""
        counts = [f"tl.maximum({end} - {first} + {axis.tile - 1}, 0) // {axis.tile}" for first, end in ends]
        return self._writer.shared(
            f"{self._positions.axis_name(axis.name)}_steps", " + ".join(counts), self._writer.depth
        )

    def _position(self, value: Value, axis: Axis) -> str:
        """An end of a loop's range, in 32 bits where the axis's positions have these."""
        tile = self._tiles[value]
        if tile.number is not None:
            return str(tile.number)
        return f"tl.cast({tile.text}, tl.int32)" if self._positions.fits_int32(axis.name) else tile.text

    def _state_tile(self, state: Value) -> Tile:
        return Tile(self._names[state], self._values.held(state), state.dtype, self._writer.depth)

    def _enter(self, start: Value, state: Value) -> None:
        """Put the state's start into its variable, in its whole shape."""
        name, text = self._names[state], self._tiles[start].full(self._values.held(state), self._space)
        if text != name:
            self._writer.add(Assign(name, text, self._values.comment(state)))
        self._tiles[state] = self._state_tile(state)

    def _steps(self, op: Op) -> None:
        """The body, and the state's next values put into its variables."""
        (body,) = op.regions
        self.block(body.ops)
        moves = []
        for state, after in zip(body.inputs, body.outputs, strict=True):
            name, text = self._names[state], self._tiles[after].full(self._values.held(state), self._space)
            if text != name:
                moves.append((name, text))
        self._move(moves, together=any(after in body.inputs for after in body.outputs))

    def _move(self, moves: list[tuple[str, str]], *, together: bool) -> None:
        """Assignments; at once where one state takes another's old value."""
        if together and len(moves) > 1:
            moves = [(", ".join(name for name, _ in moves), ", ".join(text for _, text in moves))]
        for name, text in moves:
            self._writer.add(Assign(name, text))
