"""The variables that stand for axes, sizes and gathered indices in index arithmetic, defined when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from rooftile.codegen.arithmetic import Arithmetic, Variable
from rooftile.codegen.bounds import Range, range_of_symbol
from rooftile.codegen.names import Names, readable
from rooftile.codegen.space import LANE, START, Axis, Space
from rooftile.codegen.statements import Assign, Writer
from rooftile.errors import InternalError
from rooftile.ir.expr import Symbol
from rooftile.ir.ranges import LARGEST_SIZE


@dataclass(frozen=True)
class _AxisVariables:
    """What an axis is called in the text."""

    positions: str
    start: str
    lanes: str

    @staticmethod
    def fresh(wanted: str, names: Names) -> _AxisVariables:
        name = names.fresh(readable(wanted, "axis"))
        return _AxisVariables(name, names.fresh(f"{name}0"), names.fresh(f"{name}_lane"))


class Positions:
    """Looks symbols up for ``Arithmetic``.

    An axis ``m`` appears as its position ``m``, which is ``m0 + tl.arange(0, tile)``, or as the start ``m0`` and the
    lanes ``m_lane``.
    """

    def __init__(self, space: Space, writer: Writer, names: Names, sizes: Mapping[str, str]) -> None:
        self.space = space
        self._writer = writer
        self._sizes = sizes
        self._variables = {a: _AxisVariables.fresh(a, names) for a in space.axes}
        self._placed: dict[str, tuple[str, int]] = {}  # the start of each axis: its text, and the depth where it holds
        self._indices: dict[str, tuple[str, Variable]] = {}

    def axis_name(self, axis: str) -> str:
        """The variable that holds the positions of an axis."""
        return self._variables[axis].positions

    def start_name(self, axis: str) -> str:
        """The variable that holds the first position of an axis's tile; with a tile of 1 that is the position."""
        return self._variables[axis].positions if self.space[axis].tile == 1 else self._variables[axis].start

    def start(self, axis: Axis) -> str:
        """The text of the first position of an axis's tile."""
        return self.arithmetic.text(axis.start, ())

    def place(self, axis: str, text: str, depth: int) -> None:
        """Say what the start of an axis is: ``text``, in the block at ``depth`` and those inside it."""
        self._placed[axis] = (text, depth)

    def piece(self, name: str, number: int | str, count: int) -> Positions:
        """These positions, but of an axis's tile, cut into ``count`` pieces, only those of piece ``number``, which is a
        text where it is known at run time."""
        axis, part = self.space[name], copy(self)
        part.space = self.space.with_pieces(name, count)
        part._variables = self._variables | {name: _AxisVariables.fresh(f"{name}_part", self._writer.names)}
        part._placed = dict(self._placed)
        start, first = part._variables[name].start, self.start(axis)
        if isinstance(number, str):
            text, comment = f"{first} + {number} * {axis.tile // count}", f"one of {count} pieces"
        else:
            text = f"{first} + {number * (axis.tile // count)}" if number else first
            comment = f"piece {number + 1} of {count}"
        self._writer.add(Assign(start, text, comment))
        part.place(name, start, self._writer.depth)
        return part

    def leave(self, axis: str) -> None:
        """The axis's loop is over."""
        del self._placed[axis]

    def fits_int32(self, axis: str) -> bool:
        """Whether every position of an axis, to the end of its last tile, is a 32-bit integer."""
        return Range(0, self._end(self.space[axis])).fits_int32

    def bind_indices(self, indices: Mapping[str, tuple[str, Variable]]) -> None:
        """What ``idxN`` stands for in the op that is emitted now."""
        self._indices = dict(indices)

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self)

    def variable(self, symbol: Symbol) -> Variable:
        """What is known of the variable that stands for ``symbol``.

        Raises:
            InternalError: it is no axis, size or index here.
        """
        if symbol.name in self._indices:
            return self._indices[symbol.name][1]
        axis = self._axis(symbol)
        if axis is None:
            self._size(symbol)
            found = range_of_symbol(symbol)
            return Variable((), 0, found, wide=found.high > LARGEST_SIZE)
        lanes = () if axis.tile == 1 else (axis.name,)
        if axis.single or symbol.name.endswith(LANE):
            return Variable(lanes, 0, Range(0, axis.tile - 1))
        depth = self._start(axis)[1]
        end = Range(0, self._end(axis))
        return Variable(() if symbol.name.endswith(START) else lanes, depth, end, wide=not end.fits_int32)

    def name(self, symbol: Symbol) -> str:
        """The variable that stands for ``symbol``, defined here if it is an axis's and not visible yet."""
        if symbol.name in self._indices:
            return self._indices[symbol.name][0]
        axis = self._axis(symbol)
        if axis is None:
            return self._size(symbol)
        if symbol.name.endswith(START):
            return self._start(axis)[0]
        return self._lane(axis) if symbol.name.endswith(LANE) else self._position(axis)

    def _axis(self, symbol: Symbol) -> Axis | None:
        return self.space.axes.get(symbol.name.removesuffix(START).removesuffix(LANE))

    def _size(self, symbol: Symbol) -> str:
        if symbol.name not in self._sizes:
            raise InternalError(f"index arithmetic mentions {symbol.name}, which the kernel does not know")
        return self._sizes[symbol.name]

    def _end(self, axis: Axis) -> float:
        """The last position of the last tile."""
        extent = axis.tile if axis.role == "whole" else self.arithmetic.range(axis.extent).high
        if axis.role == "ragged":  # whose tiles start anywhere
            return extent + 2 * axis.tile
        return -(-extent // axis.span) * axis.span - 1

    def _start(self, axis: Axis) -> tuple[str, int]:
        if axis.name not in self._placed:
            raise InternalError(f"axis {axis.name} is used outside its loop")
        return self._placed[axis.name]

    def _lane(self, axis: Axis) -> str:
        if axis.single:
            return self._position(axis)
        return self._writer.shared(self._variables[axis.name].lanes, f"tl.arange(0, {axis.tile})", 0, fixed=True)

    def _position(self, axis: Axis) -> str:
        if axis.tile == 1:
            return "0" if axis.single else self._start(axis)[0]
        lanes, name = f"tl.arange(0, {axis.tile})", self._variables[axis.name].positions
        if axis.single:
            return self._writer.shared(name, lanes, 0, fixed=True)
        start, depth = self._start(axis)
        if axis.role == "loop":
            lanes = self._lane(axis)
        return self._writer.shared(name, f"{start} + {lanes}", depth, fixed=True)
