"""Casts that lose nothing take part in no result, and need not come before a product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import BF16, F8E4M3, F8E5M2, F16, F32, F64, I64, DType
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least
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

# What matrix units multiply exactly, with sums in fp32: the narrowest first.
_MULTIPLIED = (BF16, F16)
_MOVED = frozenset({"expand", "permute", "reshape", "slice"})


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


def holds_values(dtype: DType, size: Size) -> bool:
    """Whether every value of ``size`` provably is one of ``dtype``; what is i64 is taken not to wrap around."""
    if dtype is I64:
        return True
    if dtype.kind not in ("int", "float"):
        return False
    whole = 2 ** _FLOATS[dtype][0] if dtype.is_float else 0  # up to where a float type has all whole numbers
    low, high = (-whole, whole) if dtype.is_float else dtype.limits
    return at_least(size, low) and at_least(add(high, mul(size, -1)), 0)


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


def _product_of_exact_casts(op: Op, rw: Rewriter) -> Make | None:
    """A product in fp32 of what narrow floats hold is one of narrow floats, for which there are matrix units: all of
    its terms are exact in fp32. Its sum is to be what fp32 arithmetic makes of it."""
    if op.attrs["acc"] is not F32 or op.attrs["dtype"] is not F32:
        return None
    chains = [_exact_cast(value, rw) for value in op.inputs]
    sources = [chain[-1].inputs[0].dtype for chain in chains if chain]
    fitting = (d for d in _MULTIPLIED if all(holds_exactly(d, source) for source in sources))
    narrow = next(fitting, None) if len(sources) == len(chains) else None
    if narrow is None or all(value.dtype is narrow for value in op.inputs):
        return None
    return Make("contract", [_without_cast(chain, narrow, rw) for chain in chains], {**op.attrs, "exact": True})


def _exact_cast(value: Value, rw: Rewriter) -> list[Op]:
    """The cast to a wider type that ``value`` is, behind the views of it; nothing where it is none."""
    chain = list(_made_of(value, rw))
    cast = chain[-1] if chain else None
    if cast is None or cast.name != "cast" or cast.inputs[0].dtype is F32:
        return []
    return chain if holds_exactly(F32, cast.inputs[0].dtype) else []


def _made_of(value: Value, rw: Rewriter) -> Iterator[Op]:
    while (op := rw.producer(value)) is not None and op.name in _MOVED:
        yield op
        (value,) = op.inputs
    if op is not None:
        yield op


def _without_cast(chain: Sequence[Op], narrow: DType, rw: Rewriter) -> Value:
    """What ``chain``, views of a cast, gives, in the dtype ``narrow``."""
    *views, cast = chain
    (value,) = cast.inputs
    if value.dtype is not narrow:
        value = rw.emit("cast", [value], {"dtype": narrow})
    for view in reversed(views):
        value = rw.emit(view.name, [value], view.attrs)
    return value


CAST_RULES: Rules = {"cast": (_nothing_to_do, _cast_of_exact_cast), "contract": (_product_of_exact_casts,)}
