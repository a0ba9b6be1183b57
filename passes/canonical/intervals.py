"""Comparisons of integers that the intervals which they lie in decide.

Positions are not negative and less than a size; so are those that ``topk`` and ``sort`` give, and what is looked up,
copied or computed from them lies in an interval as well. An index made so needs no wrapping from the end, and no test
of whether it is beyond the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, prod
from typing import Any, TypeAlias

from rooftile.ir.core import Op, Value
from rooftile.ir.expr import Size
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules
from rooftile.passes.canonical.uniform import filled

Interval: TypeAlias = tuple[float, float]

DEEPEST = 24  # ops between a comparison and what it compares
ANY: Interval = (-inf, inf)
_EXACT = 2**53  # beyond, a Python float does not tell integers apart


def _products(a: Interval, b: Interval) -> Interval:
    ends = [0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _quotients(a: Interval, b: Interval) -> Interval:
    if b[0] != b[1] or not 0 < b[0] < inf:
        return ANY
    return a[0] // b[0] if a[0] > -inf else -inf, a[1] // b[0] if a[1] < inf else inf


# By scalar function, the interval of its results from those of its operands.
ARITHMETIC: Mapping[str, Callable[..., Interval]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _products,
    "floordiv": _quotients,
    "mod": lambda a, b: (0, b[1] - 1) if b[0] > 0 else ANY,
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "where": lambda _, a, b: (min(a[0], b[0]), max(a[1], b[1])),
}
# By function, whether it holds for all of two intervals, and whether it fails for all.
_ALWAYS: Mapping[str, Callable[[Interval, Interval], bool]] = {
    "lt": lambda a, b: a[1] < b[0],
    "le": lambda a, b: a[1] <= b[0],
    "gt": lambda a, b: a[0] > b[1],
    "ge": lambda a, b: a[0] >= b[1],
}
# The interval of so many elements together, each in an interval.
_REDUCED: Mapping[str, Callable[[Interval, int], Interval]] = {
    "sum": lambda one, count: _products(one, (count, count)),
    "max": lambda one, _: one,
    "min": lambda one, _: one,
}
_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
_VIEWS = frozenset({"expand", "reshape", "permute", "slice", "gather", "arrange", "concat"})
# ATen calls that give positions along a dimension: which result, and where the dimension stands among the arguments.
_POSITIONS: Mapping[str, tuple[int, int, str]] = {
    "aten.topk.default": (1, 2, "dim"),
    "aten.sort.default": (1, 1, "dim"),
    "aten.sort.stable": (1, 1, "dim"),
    "aten.argsort.default": (0, 1, "dim"),
    "aten.argsort.stable": (0, 1, "dim"),
}
_REARRANGED = {"aten.topk.default": 0, "aten.sort.default": 0, "aten.sort.stable": 0}  # the result with the same values


def interval(value: Value, producer: Callable[[Value], Op | None], depth: int = DEEPEST) -> Interval:
    """An interval that all elements of an integer ``value`` lie in; ``producer`` gives the op that makes a value, or
    None."""
    op = producer(value)
    if op is None or depth == 0 or value.dtype.kind != "int":
        return ANY
    if op.name == "constant":
        return (op.attrs["value"],) * 2
    if op.name in ("iota", "positions"):
        return _positions(op.attrs["size"])
    if op.name == "extern":
        return _of_call(op, value, producer, depth)
    if op.name == "pointwise":
        row = ARITHMETIC.get(op.attrs["fn"])
        return ANY if row is None else _fitting(row(*(interval(v, producer, depth - 1) for v in op.inputs)), value)
    if op.name == "cast" and op.inputs[0].dtype.kind == "bool":
        return 0, 1
    if op.name == "cast" and op.inputs[0].dtype.kind == "int":
        return _fitting(interval(op.inputs[0], producer, depth - 1), value)
    if op.name == "reduce" and op.attrs["fn"] in _REDUCED:
        count = prod(op.inputs[0].shape[d] for d in op.attrs["dims"])
        one = interval(op.inputs[0], producer, depth - 1)
        return _fitting(_REDUCED[op.attrs["fn"]](one, count), value) if isinstance(count, int) and count else ANY
    if op.name not in _VIEWS:
        return ANY
    read = op.inputs[:1] if op.name in ("gather", "arrange") else op.inputs
    return hull([interval(v, producer, depth - 1) for v in read])


def hull(parts: Sequence[Interval]) -> Interval:
    """The interval that all of ``parts`` lie in."""
    return min(low for low, _ in parts), max(high for _, high in parts)


def _positions(size: Size) -> Interval:
    return 0, size - 1 if isinstance(size, int) else inf


def _of_call(op: Op, value: Value, producer: Callable[[Value], Op | None], depth: int) -> Interval:
    target, number = op.attrs["target"], op.outputs.index(value)
    x = op.inputs[0] if op.inputs else value
    if _REARRANGED.get(target) == number:
        return interval(x, producer, depth - 1)
    if target not in _POSITIONS or _POSITIONS[target][0] != number or not x.type.rank:
        return ANY
    _, place, name = _POSITIONS[target]
    args, kwargs = op.attrs["args"], dict(op.attrs["kwargs"])
    dim: Any = kwargs.get(name, args[place] if len(args) > place else -1)
    return _positions(x.shape[dim]) if isinstance(dim, int) and not isinstance(dim, bool) else ANY


def _fitting(found: Interval, value: Value) -> Interval:
    """``found``, unless what is computed so might wrap around in the value's dtype."""
    low, high = value.dtype.limits
    # A size that is known at run time is infinite here: no tensor is as long as to wrap.
    return found if found[0] >= low and (found[1] <= high or found[1] == inf) else ANY


def _lie_apart(op: Op, rw: Rewriter) -> Make | None:
    """``lt`` and its like of integers whose intervals lie apart."""
    fn = op.attrs["fn"]
    if fn not in _ALWAYS or op.inputs[0].dtype.kind != "int":
        return None
    a, b = (interval(v, rw.producer) for v in op.inputs)
    if any(abs(end) > _EXACT for end in (*a, *b) if abs(end) != inf):
        return None
    holds, fails = _ALWAYS[fn](a, b), _ALWAYS[_OPPOSITE[fn]](a, b)
    return filled(holds, op.output.type, rw) if holds or fails else None


def _within(op: Op, rw: Rewriter) -> Value | None:
    """``minimum`` and ``maximum`` of which one operand is never chosen."""
    if op.inputs[0].dtype.kind != "int":
        return None
    a, b = (interval(v, rw.producer) for v in op.inputs)
    if op.attrs["fn"] == "maximum":
        a, b = (-a[1], -a[0]), (-b[1], -b[0])
    if ANY in (a, b):
        return None
    return op.inputs[0] if a[1] <= b[0] else op.inputs[1] if b[1] <= a[0] else None


INTERVAL_RULES: Rules = {
    **{f"pointwise.{fn}": (_lie_apart,) for fn in _ALWAYS},
    "pointwise.minimum": (_within,),
    "pointwise.maximum": (_within,),
}
