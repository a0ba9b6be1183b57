"""Casts that lose nothing take part in no result."""

from __future__ import annotations

from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import BF16, F8E4M3, F8E5M2, F16, F32, F64, DType
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules

# Significant bits (the hidden one included) and the least and greatest exponents, of the float dtypes.
_FLOATS: dict[DType, tuple[int, int, int]] = {
    F64: (53, -1074, 1024),
    F32: (24, -149, 128),
    BF16: (8, -133, 128),
    F16: (11, -24, 16),
    F8E5M2: (3, -16, 16),
    F8E4M3: (4, -9, 9),
}


def holds_exactly(wide: DType, narrow: DType) -> bool:
    """Whether every value of ``narrow`` is a value of ``wide``."""
    if narrow is wide or narrow.kind == "bool":
        return True
    if wide.kind == "bool":
        return False
    if narrow.is_float:
        if not wide.is_float:
            return False
        bits, least, greatest = _FLOATS[wide]
        return bits >= _FLOATS[narrow][0] and least <= _FLOATS[narrow][1] and greatest >= _FLOATS[narrow][2]
    width = narrow.bytes * 8 - narrow.signed
    if wide.is_float:
        return _FLOATS[wide][0] >= width and _FLOATS[wide][2] > width
    return wide.bytes * 8 - wide.signed >= width and (wide.signed or not narrow.signed)


def _nothing_to_do(op: Op, _: Rewriter) -> Value | None:
    return op.inputs[0] if op.inputs[0].dtype is op.output.dtype else None


def _cast_of_exact_cast(op: Op, rw: Rewriter) -> Make | None:
    """What an exact cast keeps can be cast directly; but not round a float, where the last cast may leave its range."""
    inner = rw.made_by(op.inputs[0], "cast")
    if inner is None or not holds_exactly(inner.output.dtype, inner.inputs[0].dtype):
        return None
    source, middle, target = inner.inputs[0].dtype, inner.output.dtype, op.output.dtype
    around_float = middle.is_float and source.kind == target.kind == "int"
    if around_float and not holds_exactly(target, source):
        return None
    return Make("cast", inner.inputs, op.attrs)


CAST_RULES: Rules = {"cast": (_nothing_to_do, _cast_of_exact_cast)}
