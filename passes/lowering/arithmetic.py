"""Integer arithmetic that a kernel does before its loops, on numbers that lie along one axis or along none."""

from __future__ import annotations

from dataclasses import dataclass

from rooftile.ir.core import Value
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size
from rooftile.passes.lowering.kernel import Block, Kernel


@dataclass
class Arithmetic:
    """Emits integers of ``dtype`` into a block; those that are many vary over ``axis`` (None: there is one)."""

    kernel: Kernel
    block: Block
    dtype: DType
    axis: str | None

    def do(self, fn: str, *values: Value) -> Value:
        """A scalar function of values."""
        return self.kernel.pointwise(fn, values, self.block)

    def number(self, value: int) -> Value:
        """A constant."""
        return self.kernel.number(value, self.dtype, self.block)

    def position(self, expr: Size) -> Value:
        """An expression over axes."""
        held = self.kernel.held(frozenset(self.kernel.axes_in([expr])))
        value = self.kernel.add(self.block, "index", (), {"expr": expr, "axes": held})
        return self.kernel.cast(value, self.dtype, self.block)

    def joined(self, fn: str, value: Value) -> Value:
        """``value`` combined along the axis; itself where it does not vary over that."""
        if self.axis not in (value.type.axes or ()):
            return value
        return self.kernel.add(self.block, "reduce", (value,), {"fn": fn, "axis": self.axis})
