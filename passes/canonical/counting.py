"""Counts of what is equal to each number, and their running sums: how many are not greater."""

from __future__ import annotations

from rooftile.ir.core import Op, Value
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules


def _running_count(op: Op, rw: Rewriter) -> Make | None:
    """``scan(sum of [x = e])`` over ``e = 0, 1, ...`` is ``sum of [0 <= x <= e]``: the ends of sorted groups from what
    they are sorted by, in one step."""
    counts = rw.made_by(_without_casts(op.inputs[0], rw), "reduce")
    if counts is None or op.attrs["fn"] != "sum" or counts.attrs["fn"] != "sum":
        return None
    kept = [d for d in range(counts.inputs[0].type.rank) if d not in counts.attrs["dims"]]
    along = kept[op.attrs["dim"]]
    equal = rw.made_by(_without_casts(counts.inputs[0], rw), "pointwise")
    if equal is None or equal.attrs["fn"] != "eq":
        return None
    for number, other in (equal.inputs, equal.inputs[::-1]):
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


COUNTING_RULES: Rules = {"scan": (_running_count,)}
