"""Rule Substitution: rows that are each a combination of the rows before them solve a triangular system.

``x_i = b_i + sum_{j < i} c_ij x_j  for every i   <=>   (I - tril(C, -1)) x = b``. A loop that computes such rows and
writes each over that of ``b``, as forward substitution does, is traced as so many sums, each over what is concatenated
of all rows before. The rows may be computed up to a column only, where those before hold zeros behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F32, F64
from rooftile.ir.expr import Size
from rooftile.ir.extern import encode
from rooftile.passes.editing import replaced
from rooftile.passes.rules.windows import Window, fixed, window
from rooftile.passes.rules.zeros import zeros

FEWEST = 8  # rows; fewer sums are kernels like others
SOLVE = "aten.linalg_solve_triangular.default"


@dataclass(frozen=True)
class System:
    """``x = b + tril(c, -1) x``: matrices in the last two dimensions, those of all others side by side."""

    c: Value
    b: Value


def system(op: Op, producers: Mapping[Value, Op]) -> System | None:
    """The system whose solution the concatenation ``op`` puts together row by row; None where it is none."""
    sizes, rank = fixed(op.output.shape), op.output.type.rank
    if sizes is None or op.attrs["dim"] != rank - 2 or len(op.inputs) < FEWEST or len(op.inputs) != sizes[-2]:
        return None
    first = window(op.inputs[0], producers)
    if first is None or first.source.type != op.output.type or op.output.dtype not in (F32, F64):
        return None
    rows = _Rows(op, first.source, producers)
    if not rows.is_row(op.inputs[0], rows.b, 0, 0):
        return None
    coefficients = {rows.coefficients(i) for i in range(1, len(op.inputs))}
    c = coefficients.pop()
    return None if c is None or coefficients else System(c, rows.b)


def solved(graph: Graph, op: Op, found: System) -> Graph:
    """``graph`` with what the concatenation ``op`` gives computed by one call of ATen."""

    def make(builder: GraphBuilder) -> None:
        left = builder.pointwise("neg", found.c)
        options = {"upper": False, "unitriangular": True}  # the call looks at nothing but what lies below the diagonal
        operands, attrs = encode(SOLVE, [left, found.b], options, [op.output.type])
        builder.multi("extern", operands, attrs, name="solved")

    return replaced(graph, op, make)


class _Rows:
    """The rows of a concatenation, read as sums of a row of ``b`` and of a combination of rows before it."""

    def __init__(self, op: Op, b: Value, producers: Mapping[Value, Op]) -> None:
        self.pieces, self.b, self._producers = op.inputs, b, producers
        sizes = fixed(op.output.shape) or ()
        self._last = len(sizes) - 1
        self._beside = [d for d, n in enumerate(sizes[:-2]) if n > 1]
        self._columns = sizes[-1]
        self._empty = zeros(b, producers)
        self._computed = 0  # columns of the row before that are not taken from b

    def coefficients(self, i: int) -> Value | None:
        """The value whose row ``i`` holds the coefficients of row ``i``; None where it is no such row."""
        row, computed = self._behind_ones(self.pieces[i]), self._columns
        made = self._producers.get(row)
        if made is not None and made.name == "concat" and len(made.inputs) == 2:
            row, rest = made.inputs
            computed = (fixed(row.shape) or (0,))[-1]
            if made.attrs["dim"] != row.type.rank - 1 or not self.is_row(rest, self.b, i, computed):
                return None
        if computed < self._computed or not self._empty[:i, computed:].all():
            return None
        self._computed = computed
        made = self._producers.get(self._behind_ones(row))
        if made is None or made.name != "pointwise" or made.attrs["fn"] != "add":
            return None
        pairs = (made.inputs, made.inputs[::-1])
        return next((self._combined(other, i) for own, other in pairs if self.is_row(own, self.b, i, 0)), None)

    def is_row(self, value: Value, source: Value, row: int, column: int) -> bool:
        """Whether ``value`` is a part of row ``row`` of all matrices of ``source``, from ``column`` on."""
        at, size = window(value, self._producers), (fixed(value.shape) or (0,))[-1]
        along = [*self._beside, self._last] if size > 1 else self._beside
        return at is not None and at.source is source and self._is_at(at, row, column, (1, size), along)

    def _is_at(self, at: Window, row: int, column: int, sizes: tuple[int, int], along: Sequence[int]) -> bool:
        beside = fixed(self.b.shape[:-2]) or ()
        starts = (*(0 for _ in beside), row, column)
        used = [d for d in at.dims if d is not None]
        return (at.starts, at.sizes, used) == (starts, (*beside, *sizes), list(along))

    def _combined(self, value: Value, i: int) -> Value | None:
        """The value whose elements ``i, j`` are what each row ``j`` before row ``i`` is multiplied by in a sum."""
        made = self._producers.get(self._behind_ones(value))
        summed: int | None = None
        if made is not None and made.name == "reduce" and made.attrs["fn"] == "sum" and len(made.attrs["dims"]) == 1:
            (summed,) = made.attrs["dims"]
            made = self._producers.get(made.inputs[0])
        if made is None or made.name != "pointwise" or made.attrs["fn"] != "mul" or (summed is None) != (i == 1):
            return None
        windows = [window(x, self._producers) for x in made.inputs]
        for factor, rows in (windows, windows[::-1]):
            if factor is not None and rows is not None and self._are_rows_before(rows, i, summed):
                return self._coefficients(factor, rows, i, summed)
        return None

    def _are_rows_before(self, rows: Window, i: int, summed: int | None) -> bool:
        """Whether these are the rows before row ``i``, as computed, along dimension ``summed``."""
        if summed is None:  # the first row alone, which is that of b
            columns = [self._last] if self._computed > 1 else []
            return rows.source is self.b and self._is_at(rows, 0, 0, (1, self._computed), [*self._beside, *columns])
        made = self._producers.get(rows.source)
        if made is None or made.name != "concat" or made.inputs[:i] != self.pieces[:i]:
            return False
        if made.attrs["dim"] != self._last - 1 or rows.dims[summed] != self._last - 1:
            return False
        along = [*self._beside, self._last - 1, self._last]
        return self._is_at(rows, 0, 0, (i, self._computed), along)

    def _coefficients(self, factor: Window, rows: Window, i: int, summed: int | None) -> Value | None:
        along = [*self._beside, *(() if summed is None else (self._last,))]
        if summed is not None and factor.dims[summed] != self._last:
            return None
        square = (*self.b.shape[:-1], self.b.shape[-2])
        beside = [[d if d in self._beside else None for d in at.dims] for at in (factor, rows)]
        fits = factor.source.shape == square and beside[0] == beside[1]
        return factor.source if fits and self._is_at(factor, i, 0, (1, i), along) else None

    def _behind_ones(self, value: Value) -> Value:
        """What ``value`` is but for dimensions of size one."""
        made = self._producers.get(value)
        while made is not None and made.name == "reshape" and _longer(made.output) == _longer(made.inputs[0]):
            value = made.inputs[0]
            made = self._producers.get(value)
        return value


def _longer(x: Value) -> list[Size]:
    return [n for n in x.shape if n != 1]
