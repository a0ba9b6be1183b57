"""Counts of what is equal to each number, and their running sums: how many are not greater."""

from __future__ import annotations

from rooftile.ir.core import Op, Value
from rooftile.ir.ranges import equal
from rooftile.ir.scalar import COMBINES
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules


def _running_count(op: Op, rw: Rewriter) -> Make | None:
    """``scan(sum of [x = e])`` over ``e = 0, 1, ...`` is ``sum of [0 <= x <= e]``: the ends of sorted groups from what
    they are sorted by, in one step."""
    counts = rw.made_by(_without_casts(op.inputs[0], rw), "reduce")
    if counts is None or op.attrs["fn"] != "sum" or counts.attrs["fn"] != "sum":
        return None
    kept = [d for d in range(counts.inputs[0].type.rank) if d not in counts.attrs["dims"]]
    along = kept[op.attrs["dim"]]
    same = rw.made_by(_without_casts(counts.inputs[0], rw), "pointwise")
    if same is None or same.attrs["fn"] != "eq":
        return None
    for number, other in (same.inputs, same.inputs[::-1]):
        if _counts_along(number, along, rw) and _is_same_along(other, along, rw):
            zero = rw.emit("constant", (), {"value": 0, "dtype": other.dtype})
            zeros = rw.emit("expand", [zero], {"shape": other.shape, "dims": ()})
            reached = rw.emit("pointwise", [other, number], {"fn": "le"})
            whole = rw.emit("pointwise", [other, zeros], {"fn": "ge"})
            passed = rw.emit("pointwise", [reached, whole], {"fn": "and"})
            return Make("reduce", [rw.emit("cast", [passed], {"dtype": op.output.dtype})], counts.attrs)
    return None


def _without_casts(value: Value, rw: Rewriter) -> Value:
    while (op := rw.made_by(value, "cast")) is not None:
        value = op.inputs[0]
    return value


def _counts_along(value: Value, dim: int, rw: Rewriter) -> bool:
    """Whether ``value`` is 0, 1, ... along ``dim`` and the same along all others; integers, since of floats not all
    are."""
    spread = rw.made_by(value, "expand")
    return (
        spread is not None
        and value.dtype.kind == "int"
        and spread.attrs["dims"] == (dim,)
        and rw.made_by(spread.inputs[0], "iota") is not None
    )


def _is_same_along(value: Value, dim: int, rw: Rewriter) -> bool:
    spread = rw.made_by(value, "expand")
    if spread is None:
        return False
    dims = spread.attrs["dims"]
    return dim not in dims or spread.inputs[0].shape[dims.index(dim)] == 1


def _in_any_order(op: Op, rw: Rewriter) -> Make | None:
    """A reduction of integers over what is sorted is one over what is not: it needs no order."""
    if len(op.attrs["dims"]) != 1 or op.output.dtype.kind == "float" or COMBINES[op.attrs["fn"]].position:
        return None
    found = _Unordered(op.attrs["dims"][0], rw)
    value = found.value(op.inputs[0])
    if value is None or value is op.inputs[0]:
        return None
    return Make("reduce", [value], op.attrs)


class _Unordered:
    """Values as they are before one permutation of their elements along ``dim``."""

    def __init__(self, dim: int, rw: Rewriter) -> None:
        self._dim, self._rw = dim, rw
        self._index: Value | None = None

    def value(self, value: Value) -> Value | None:
        """``value`` before the permutation, itself where it is the same all along; None where it is neither."""
        op = self._rw.producer(value)
        if op is None:
            return None
        if op.name == "expand":
            return self._expanded(value, op)
        if op.name == "arrange" and value.type.rank == 1:
            return self._before(op)
        if op.name not in ("pointwise", "cast"):
            return None
        operands = [self.value(v) for v in op.inputs]
        if any(v is None for v in operands):
            return None
        if operands == list(op.inputs):
            return value
        return self._rw.emit(op.name, [v for v in operands if v is not None], op.attrs)

    def _expanded(self, value: Value, op: Op) -> Value | None:
        if _is_same_along(value, self._dim, self._rw):
            return value
        source = self._rw.made_by(op.inputs[0], "arrange") if op.attrs["dims"] == (self._dim,) else None
        before = None if source is None else self._before(source)
        return None if before is None else self._rw.emit("expand", [before], op.attrs)

    def _before(self, arrange: Op) -> Value | None:
        """The rows of ``arrange``, if it writes every row once, in the order of all the others'."""
        x, index = arrange.inputs
        if self._index not in (None, index) or not equal(x.shape[0], arrange.attrs["size"]):
            return None
        self._index = index
        return x


COUNTING_RULES: Rules = {"scan": (_running_count,), "reduce": (_in_any_order,)}
