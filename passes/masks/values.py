"""Interval arithmetic over the values of a region, given that some conditions hold or fail.

It answers what a masked element adds to a reduction: with the mask's fill pushed through the body, ``exp(-inf - m)`` is
0 for every finite ``m``, and a sum of zeros need not be visited. Values that are not known are taken as finite and
below ``LARGEST`` in magnitude; the interval of what is computed from infinities is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, isinf, isnan, nan
from typing import TypeAlias

import torch

from rooftile.ir.dtypes import F16, DType
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.regions.access import Access, Node, Read

Interval: TypeAlias = tuple[float, float]  # closed; booleans are 0 and 1

LARGEST = 1e30  # in magnitude, of a value that is not known
ANYTHING: Interval = (-inf, inf)


@dataclass
class Values:
    """The intervals that the reads of a region have in a step of a sweep over ``axis``; ``known`` gives those of some:
    conditions that hold or fail there, states of the sweep."""

    access: Access
    axis: str
    known: Mapping[Read, Interval]
    found: dict[Read, Interval] = field(default_factory=dict)

    def interval(self, read: Read) -> Interval:
        """In which interval every element of ``read`` lies."""
        if read in self.known:
            return self.known[read]
        if read not in self.found:
            self.found[read] = self._compute(read, self.access.nodes[read])
        return self.found[read]

    def _compute(self, read: Read, node: Node) -> Interval:
        op, dtype = node.op, read.value.dtype
        if op is None or op.name in ("iota", "size", "scan") or self.axis in node.bound:
            return unknown(dtype)
        if op.name == "constant":
            return (float(op.attrs["value"]),) * 2
        operands = [self.interval(operand) for operand in node.operands]
        match op.name:
            case "pointwise":
                return _scalar(str(op.attrs["fn"]), operands, dtype)
            case "contract":
                return (0.0, 0.0) if (0.0, 0.0) in operands else unknown(dtype)
            case "reduce" if COMBINES[op.attrs["fn"]].scalar in ("maximum", "minimum", "or", "and"):
                return unknown(dtype) if COMBINES[op.attrs["fn"]].position else operands[0]
            case "reduce":
                return (0.0, 0.0) if operands[0] == (0.0, 0.0) and op.attrs["fn"] == "sum" else unknown(dtype)
            case "concat" | "pad":
                ends = [*operands, *([(float(op.attrs["value"]),) * 2] if op.name == "pad" else [])]
                return (min(low for low, _ in ends), max(high for _, high in ends))
            case "cast":
                return _rounded(operands[0], dtype)
        return operands[0]  # a view

    def adds_nothing(self, member: Read) -> bool:
        """Whether every element of the reduction ``member`` counts as much as none; of a maximum that is known to reach
        some value, elements below that do."""
        node = self.access.nodes[member]
        assert node.op is not None
        operands = [self.interval(operand) for operand in node.operands]
        if node.op.name == "contract":
            return (0.0, 0.0) in operands
        row, ((low, high),) = COMBINES[node.op.attrs["fn"]], operands
        reached = self.known.get(member)
        if row.position:
            return False
        if row.scalar == "maximum":
            return high == -inf or (reached is not None and high <= reached[0])
        if row.scalar == "minimum":
            return low == inf or (reached is not None and low >= reached[1])
        return not isinstance(row.identity, str) and low == high == row.identity


def unknown(dtype: DType) -> Interval:
    """The interval of a value of which only the type is known."""
    if dtype.kind == "bool":
        return (0.0, 1.0)
    if not dtype.is_float:
        return ANYTHING
    largest = torch.finfo(F16.torch).max if dtype is F16 else LARGEST
    return (-largest, largest)


def _rounded(interval: Interval, dtype: DType) -> Interval:
    """The interval in another type."""
    if dtype.kind == "bool":
        low, high = interval
        return (1.0, 1.0) if low > 0 or high < 0 else interval if low == high == 0 else (0.0, 1.0)
    if not dtype.is_float:
        return interval if all(abs(end) < 2.0**24 and end == int(end) for end in interval) else ANYTHING
    low, high = (float(torch.tensor(end, dtype=torch.float64).to(dtype.torch)) for end in interval)
    overflows = any(isinf(new) and not isinf(old) for new, old in zip((low, high), interval, strict=True))
    return unknown(dtype) if overflows else (low, high)


def _scalar(fn: str, operands: list[Interval], dtype: DType) -> Interval:
    """The interval of a scalar function: by its row below, of numbers, or from the ends of its operands where
    it never decreases."""
    row = SCALARS[fn]
    if fn in _ROWS:
        result = _ROWS[fn](*operands)
    elif all(low == high for low, high in operands) and (dtype.is_float or row.operands == "float"):
        value = _at(fn, [low for low, _ in operands])
        return ANYTHING if isnan(value) else (value, value)
    elif row.nondecreasing == frozenset(range(row.arity)) and dtype.is_float:
        result = (_at(fn, [low for low, _ in operands]), _at(fn, [high for _, high in operands]))
    else:
        return unknown(dtype)
    if any(isnan(end) for end in result):
        return ANYTHING
    if all(abs(end) <= LARGEST for interval in operands for end in interval):  # finite: what is unknown stays in bounds
        result = (max(result[0], -LARGEST), min(result[1], LARGEST))
    return result


def _at(fn: str, values: list[float]) -> float:
    """The value of a function in fp32, in which it is computed."""
    return float(SCALARS[fn].reference(*(torch.tensor(v, dtype=torch.float32) for v in values)))


def _sub(a: Interval, b: Interval) -> Interval:
    return (a[0] - b[1], a[1] - b[0])


def _mul(a: Interval, b: Interval) -> Interval:
    ends = [0.0 if 0.0 in (x, y) else x * y for x in a for y in b]
    return (min(ends), max(ends))


def _div(a: Interval, b: Interval) -> Interval:
    if b == (0.0, 0.0):
        return (nan, nan)
    if a == (0.0, 0.0):
        return a
    if b[0] > 0 or b[1] < 0:
        return _mul(a, (1 / b[1], 1 / b[0]))
    return ANYTHING


def _where(condition: Interval, a: Interval, b: Interval) -> Interval:
    if condition[0] == condition[1]:
        return a if condition[0] else b
    return (min(a[0], b[0]), max(a[1], b[1]))


def _at_least(a: Interval, b: Interval) -> Interval:
    return (float(a[0] >= b[1]), float(a[1] >= b[0]))


def _above(a: Interval, b: Interval) -> Interval:
    return (float(a[0] > b[1]), float(a[1] > b[0]))


def _equal(a: Interval, b: Interval) -> Interval:
    """Of numbers; what is not known may be any, even an infinity that is asked for."""
    return (float(a == b),) * 2 if a[0] == a[1] and b[0] == b[1] else (0.0, 1.0)


_ROWS: dict[str, Callable[..., Interval]] = {
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "where": _where,
    "neg": lambda a: (-a[1], -a[0]),
    "not": lambda a: (1 - a[1], 1 - a[0]),
    "and": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "or": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "eq": _equal,
    "ne": lambda a, b: (1 - _equal(a, b)[1], 1 - _equal(a, b)[0]),
    "ge": _at_least,
    "gt": _above,
    "le": lambda a, b: _at_least(b, a),
    "lt": lambda a, b: _above(b, a),
}
