"""Program ids: a one-dimensional launch, taken apart into the tile numbers of the grid axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from rooftile.codegen.positions import Positions
from rooftile.codegen.space import Axis, Space
from rooftile.codegen.statements import Assign, Writer
from rooftile.ir.core import Graph
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import product
from rooftile.ir.schedule import option


def launch_grid(kernel: Graph, space: Space) -> tuple[Size, ...]:
    """The number of programs: the product of the grid axes' tile counts."""
    return (product([space[a].tiles for a in kernel.attrs["grid"]]),)


class Grid:
    """Writes the statements that say which tile of each grid axis a program takes.

    A persistent kernel has ``programs`` of them, each of which takes every ``programs``-th tile. ``number`` is the text
    of a program's own, ``counts`` those of how many tiles axes have, where the program has counted them. With
    ``pieces``, the tiles that would not be enough for every program are left to be run in as many pieces each.
    """

    def __init__(
        self,
        kernel: Graph,
        positions: Positions,
        writer: Writer,
        programs: int,
        number: str = "tl.program_id(0)",
        counts: Mapping[str, str] = MappingProxyType({}),
        pieces: int = 1,
    ) -> None:
        self._number, self._counts, self._pieces = number, counts, pieces
        self._persistent = option(kernel.attrs, "persistent")
        self._programs = programs
        self._options = (f"flatten={option(kernel.attrs, 'flatten')}",)
        self._positions = positions
        self._writer = writer
        self._axes = [positions.space[a] for a in kernel.attrs["grid"] if not positions.space[a].single]
        self._group: tuple[str, int] | None = kernel.attrs["group"]
        self._backwards = kernel.attrs.get("backwards") or ()
        self._axes.sort(key=lambda a: not self._one_group(a))

    def _one_group(self, axis: Axis) -> bool:
        """Whether all tiles of the grouped axis make one group, which is to say that the axis is the fastest."""
        tiles = axis.tiles
        if axis.name in self._counts or self._group is None or axis.name != self._group[0]:
            return False
        return isinstance(tiles, int) and tiles <= self._group[1]

    @contextmanager
    def tiles(self) -> Iterator[None]:
        """What is written inside the ``with`` block runs for one tile of every grid axis, or for one after another."""
        if not self._persistent or not self._axes:
            self._write(self._number)
            yield
            return
        stop, _ = self._apart(self._count(self._axes))
        with self._writer.loop("pid", self._number, stop, self._programs, "tile by tile", self._options):
            self._write("pid")
            yield

    @property
    def has_rest(self) -> bool:
        """Whether tiles may be left for ``rest``."""
        return self._persistent and self._pieces > 1 and self._apart(self._count(self._axes))[1] != "0"

    @contextmanager
    def rest(self) -> Iterator[str]:
        """What is written inside the ``with`` block runs for one piece of every tile that ``tiles`` leaves; the text of
        the piece's number in its tile."""
        whole, count = self._apart(self._count(self._axes))
        with self._writer.loop("piece", self._number, count, self._programs, "the last tiles, in pieces"):
            self._writer.add(Assign("pid", f"{whole} + piece // {self._pieces}"))
            self._write("pid")
            yield f"piece % {self._pieces}"

    def _apart(self, count: str) -> tuple[str, str]:
        """The texts of how many of ``count`` tiles are run whole, and in how many pieces the others: those behind the
        last for which every program has one, if all of their pieces can run at once."""
        pieces, programs = self._pieces, self._programs
        if pieces == 1:
            return count, "0"
        if count.isdecimal():
            beyond = int(count) % programs
            beyond = beyond if beyond * pieces <= programs else 0
            return str(int(count) - beyond), str(beyond * pieces)
        rest = self._writer.shared("rest", f"{count} % {programs}", 0)
        whole = self._writer.shared("whole", f"{count} - tl.where({rest} * {pieces} <= {programs}, {rest}, 0)", 0)
        return whole, self._writer.shared("pieces", f"({count} - {whole}) * {pieces}", 0)

    def _write(self, number: str) -> None:
        """Define the tile ``number`` and the start of every grid axis that has more than one tile."""
        if len(self._axes) == 1:
            self._place(self._axes[0], number)
        elif self._axes:
            if number != "pid":
                self._writer.add(Assign("pid", number))
            self._place_several()

    def _place_several(self) -> None:
        pair = self._grouped_pair()
        plain = self._axes
        before: list[Axis] = []
        if pair is not None:
            self._write_pair(*pair)
            before = [*pair]
            plain = [a for a in self._axes if a not in pair]
        for axis in plain:
            text = f"pid // {self._count(before)}" if before else "pid"
            before.append(axis)
            self._place(axis, f"{text} % {self._count([axis])}" if len(before) < len(self._axes) else text)

    def _grouped_pair(self) -> tuple[Axis, Axis] | None:
        """The axis whose tiles are grouped and the fastest other one, if programs are to be numbered in groups."""
        if self._group is None or self._group[1] == 1 or len(self._axes) < 2:
            return None
        name = self._group[0]
        others = [a for a in self._axes if a.name != name]
        if len(others) == len(self._axes) or self._one_group(self._positions.space[name]):
            return None
        return self._positions.space[name], others[0]

    def _write_pair(self, grouped: Axis, other: Axis) -> None:
        """Number the tiles of two axes so that ``n`` of the first with all of the second come before the next ``n``."""
        assert self._group is not None
        n, add = self._group[1], self._writer.add
        inner = "pid" if len(self._axes) == 2 else f"pid % {self._count([grouped, other])}"
        if inner != "pid":
            add(Assign("pair", inner))
            inner = "pair"
        per_group = self._count_text(other.tiles * n)
        add(Assign("first", f"{inner} // {per_group} * {n}", f"groups of {n} tiles of {grouped.name}"))
        if isinstance(grouped.tiles, int) and grouped.tiles % n == 0 and grouped.name not in self._counts:
            rows = str(n)
        else:
            rows = "rows"
            add(Assign(rows, f"tl.minimum({self._count([grouped])} - first, {n})"))
        add(Assign("inner", f"{inner} % {per_group}"))
        self._place(grouped, f"first + inner % {rows}")
        self._place(other, f"inner // {rows}")

    def _count(self, axes: list[Axis]) -> str:
        """The text of the number of tiles of several axes together."""
        known = self._count_text(product([a.tiles for a in axes if a.name not in self._counts]))
        counted = [f"tl.cast({self._counts[a.name]}, tl.int32)" for a in axes if a.name in self._counts]
        if not counted:
            return known
        return self._writer.shared("tiles", " * ".join([*counted, known] if known != "1" else counted), 0)

    def _count_text(self, count: Size) -> str:
        if isinstance(count, int):
            return str(count)
        arithmetic = self._positions.arithmetic
        text = arithmetic.text(count, ())
        # No launch has more programs than 32 bits count, whatever the sizes could be.
        return self._writer.shared("tiles", f"tl.cast({text}, tl.int32)" if arithmetic.wide(count) else text, 0)

    def _place(self, axis: Axis, number: str) -> None:
        name = self._positions.start_name(axis.name)
        wide = not self._positions.fits_int32(axis.name)
        if axis.name in self._backwards:
            last = str(axis.tiles - 1) if isinstance(axis.tiles, int) else f"{self._count([axis])} - 1"
            number = f"{last} - {number if number.isidentifier() else f'({number})'}"
        if wide:
            number = f"tl.cast({number}, tl.int64)"
        if axis.tile > 1:
            number = f"{number} * {axis.tile}" if number.startswith("tl.") else f"({number}) * {axis.tile}"
        end = min(axis.tile, axis.extent) if isinstance(axis.extent, int) else axis.tile
        comment = f"{axis.name} < {axis.extent}, {end} at a time" if end > 1 else f"{axis.name} < {axis.extent}"
        self._writer.add(Assign(name, number, comment))
        self._positions.place(axis.name, name, self._writer.depth)
