"""The values of a kernel while it is written: which text holds each, and what gathered indices stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rooftile.codegen.arithmetic import Variable
from rooftile.codegen.bounds import ANY_INT64, Range
from rooftile.codegen.positions import Positions
from rooftile.codegen.statements import Assign, Writer
from rooftile.codegen.tile import Tile
from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import I64, DType


class Values:
    """``tiles`` by value; ``names`` are the variables that hold them once they are defined."""

    def __init__(self, positions: Positions, writer: Writer, names: Mapping[Value, str]) -> None:
        self.positions = positions
        self.space = positions.space
        self.writer = writer
        self.names = names
        self.tiles: dict[Value, Tile] = {}

    def held(self, value: Value) -> tuple[str, ...]:
        """The dimensions of a value."""
        return self.space.held(value.type)

    def full(self, value: Value) -> str:
        """The text of a value as a tensor of its whole shape."""
        return self.tiles[value].full(self.held(value), self.space)

    def define(self, op: Op, text: str, axes: tuple[str, ...], dtype: DType | None = None) -> None:
        """Assign ``text``, with the dimensions ``axes``, to the variable of the op's result; ``dtype`` is the text's,
        where that is not the result's."""
        value = op.output
        self.writer.add(Assign(self.names[value], text, self.comment(value, dtype)))
        self.tiles[value] = Tile(self.names[value], axes, dtype or value.dtype, self.writer.depth)

    def comment(self, value: Value, dtype: DType | None = None) -> str:
        """A value's type as a comment says it."""
        axes = self.held(value)
        return f"{dtype or value.dtype}[{', '.join(axes)}]" if axes else f"{dtype or value.dtype}"

    def bind(self, indices: Sequence[Value]) -> bool:
        """Let ``idx1``, ``idx2``, ... stand for the values of ``indices``; whether there are any."""
        variables: dict[str, tuple[str, Variable]] = {}
        for number, value in enumerate(indices, start=1):
            tile = self.tiles[value]
            wide = value.dtype is I64
            reach = ANY_INT64 if wide else Range(-(2**31), 2**31 - 1)
            variables[f"idx{number}"] = (tile.text, Variable(tile.axes, tile.depth, reach, wide))
        self.positions.bind_indices(variables)
        return bool(indices)
