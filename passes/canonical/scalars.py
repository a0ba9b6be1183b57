"""Arithmetic that says less than it seems to: neutral and absorbing numbers, operands that meet themselves, powers,
selections.

Nothing here changes a result in eager's dtype. So ``x + -0.0`` is ``x``, but ``x + 0.0`` is not: it turns a negative
zero positive.
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, frexp
from typing import Any, NamedTuple

import torch

from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import B1
from rooftile.ir.scalar import SCALARS
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules
from rooftile.passes.canonical.uniform import filled
from rooftile.passes.numbers import Number, number_in


class Special(NamedTuple):
    """What ``fn`` does when the operand at ``position`` is ``number``: return the other one, or ``number`` itself."""

    fn: str
    number: Number
    position: int
    kinds: tuple[str, ...] = ("float", "int")


_INF = float("inf")

NEUTRAL = (
    Special("add", -0.0, 0, ("float",)),
    Special("add", -0.0, 1, ("float",)),
    Special("sub", 0.0, 1, ("float",)),
    Special("add", 0, 0, ("int",)),
    Special("add", 0, 1, ("int",)),
    Special("sub", 0, 1, ("int",)),
    Special("mul", 1, 0),
    Special("mul", 1, 1),
    Special("div", 1, 1),
    Special("floordiv", 1, 1, ("int",)),
    Special("truncdiv", 1, 1, ("int",)),
    Special("maximum", -_INF, 0),
    Special("maximum", -_INF, 1),
    Special("minimum", _INF, 0),
    Special("minimum", _INF, 1),
    Special("and", True, 0, ("bool",)),
    Special("and", True, 1, ("bool",)),
    Special("or", False, 0, ("bool", "int")),
    Special("or", False, 1, ("bool", "int")),
    Special("xor", False, 0, ("bool", "int")),
    Special("xor", False, 1, ("bool", "int")),
    Special("shl", 0, 1, ("int",)),
    Special("shr", 0, 1, ("int",)),
)

# Not for floats: 0 * inf is NaN.
ABSORBING = (
    Special("mul", 0, 0, ("int",)),
    Special("mul", 0, 1, ("int",)),
    Special("and", False, 0, ("bool", "int")),
    Special("and", False, 1, ("bool", "int")),
    Special("or", True, 0, ("bool",)),
    Special("or", True, 1, ("bool",)),
)

# What f(x, x) is: the operand itself, or, where the operand is no float and so cannot be NaN, a number.
IDEMPOTENT = frozenset({"maximum", "minimum", "and", "or"})
MEETS_ITSELF = {"sub": 0, "xor": 0, "eq": True, "le": True, "ge": True, "ne": False, "lt": False, "gt": False}

INVOLUTIONS = frozenset({"neg", "not"})
PROJECTIONS = frozenset({"abs", "floor", "ceil", "round", "trunc", "sign"})


def _neutral(op: Op, rw: Rewriter) -> Value | Make | None:
    for row in NEUTRAL:
        if row.fn == op.attrs["fn"] and _holds(row, op, rw):
            return op.inputs[1 - row.position]
    for row in ABSORBING:
        if row.fn == op.attrs["fn"] and _holds(row, op, rw):
            return filled(row.number, op.output.type, rw)
    return None


def _holds(row: Special, op: Op, rw: Rewriter) -> bool:
    operand = op.inputs[row.position]
    if operand.dtype.kind not in row.kinds:
        return False
    number = number_in(operand, rw.producer)
    return number == row.number and (not operand.dtype.is_float or copysign(1, number) == copysign(1, row.number))


def _meets_itself(op: Op, rw: Rewriter) -> Value | Make | None:
    if len(op.inputs) != 2 or op.inputs[0] is not op.inputs[1]:
        return None
    if op.attrs["fn"] in IDEMPOTENT:
        return op.inputs[0]
    if op.attrs["fn"] in MEETS_ITSELF and not op.inputs[0].dtype.is_float:
        number = MEETS_ITSELF[op.attrs["fn"]]
        # xor of booleans is a boolean; the table's 0 means its false
        return filled(bool(number) if op.output.dtype.kind == "bool" else number, op.output.type, rw)
    return None


def _twice(op: Op, rw: Rewriter) -> Value | Make | None:
    """``neg(neg(x))`` is ``x``, ``abs(abs(x))`` and ``abs(neg(x))`` are ``abs(x)``."""
    inner = rw.made_by(op.inputs[0], "pointwise")
    if inner is None:
        return None
    fn, before = op.attrs["fn"], inner.attrs["fn"]
    if fn == before and fn in INVOLUTIONS:
        return inner.inputs[0]
    if fn == before and fn in PROJECTIONS:
        return inner.output
    return Make("pointwise", inner.inputs, {"fn": "abs"}) if (fn, before) == ("abs", "neg") else None


def _times_minus_one(op: Op, rw: Rewriter) -> Make | None:
    for position in (0, 1):
        operand = op.inputs[position]
        if operand.dtype.kind != "bool" and number_in(operand, rw.producer) == -1:
            return Make("pointwise", [op.inputs[1 - position]], {"fn": "neg"})
    return None


def _divide_by_power_of_two(op: Op, rw: Rewriter) -> Make | None:
    """``x / 8`` is ``x * 0.125`` to the last bit, where the reciprocal is a normal number: fp16 has the fewest."""
    number = number_in(op.inputs[1], rw.producer)
    if number is None or abs(frexp(number)[0]) != 0.5 or not 2.0**-14 <= abs(number) <= 2.0**14:
        return None
    reciprocal = _uniform(1.0 / number, op.inputs[1], rw)
    return Make("pointwise", [op.inputs[0], reciprocal], {"fn": "mul"})


def _uniform(number: Number, like: Value, rw: Rewriter) -> Value:
    return rw.emit(*filled(number, like.type, rw))


def _squared(x: Value, rw: Rewriter) -> Value:
    return rw.emit("pointwise", [x, x], {"fn": "mul"})


def _call(fn: str, *operands: Value) -> Make:
    return Make("pointwise", operands, {"fn": fn})


# torch's own special cases of a scalar exponent: products and roots, not `pow`.
POWERS: dict[float, Callable[[Value, Rewriter], Value | Make]] = {
    1.0: lambda x, rw: x,
    2.0: lambda x, rw: _call("mul", x, x),
    3.0: lambda x, rw: _call("mul", _squared(x, rw), x),
    0.5: lambda x, rw: _call("sqrt", x),
    -0.5: lambda x, rw: _call("rsqrt", x),
    -1.0: lambda x, rw: _call("reciprocal", x),
    -2.0: lambda x, rw: _call("reciprocal", _squared(x, rw)),
}


def _power(op: Op, rw: Rewriter) -> Value | Make | None:
    exponent = number_in(op.inputs[1], rw.producer)
    meaning: Any = POWERS.get(exponent) if exponent is not None else None
    return meaning(op.inputs[0], rw) if meaning else None


def _select(op: Op, rw: Rewriter) -> Value | Make | None:
    condition, chosen, other = op.inputs
    number = number_in(condition, rw.producer)
    if number is not None:
        return chosen if number else other
    if chosen is other:
        return chosen
    inner = rw.made_by(condition, "pointwise")
    if inner is not None and inner.attrs["fn"] == "not":
        return _call("where", inner.inputs[0], other, chosen)
    return None


def _choice_of_truths(op: Op, rw: Rewriter) -> Value | Make | None:
    """A choice between booleans one of which is a number, as ``tril`` of a mask makes it, is a connective."""
    condition, chosen, other = op.inputs
    if op.output.dtype is not B1:
        return None
    numbers = (number_in(chosen, rw.producer), number_in(other, rw.producer))
    if numbers == (True, False):
        return condition
    if numbers == (False, True):
        return _call("not", condition)
    if numbers[1] is not None and not numbers[1]:
        return _call("and", condition, chosen)
    return _call("or", condition, other) if numbers[0] else None


def _compared_choice(op: Op, rw: Rewriter) -> Value | Make | None:
    """Which of two numbers was chosen, told by comparing the choice with a third, is the condition."""
    seen = rw.made_by(op.inputs[0], "reshape")
    choice = rw.made_by(op.inputs[0] if seen is None else seen.inputs[0], "pointwise")
    other = number_in(op.inputs[1], rw.producer)
    if choice is None or choice.attrs["fn"] != "where" or other is None:
        return None
    condition, *values = choice.inputs
    numbers = [number_in(v, rw.producer) for v in values]
    if None in numbers:
        return None
    compare = SCALARS[op.attrs["fn"]].reference
    held = [bool(compare(*(torch.tensor(n, dtype=choice.output.dtype.torch) for n in (n, other)))) for n in numbers]
    if held[0] == held[1]:
        return filled(held[0], op.output.type, rw)
    if seen is not None:
        condition = rw.emit("reshape", [condition], seen.attrs)
    return condition if held[0] else Make("pointwise", [condition], {"fn": "not"})


SCALAR_RULES: Rules = {
    "pointwise": (_neutral, _meets_itself),
    **{f"pointwise.{fn}": (_twice,) for fn in sorted(INVOLUTIONS | PROJECTIONS)},
    "pointwise.mul": (_times_minus_one,),
    "pointwise.div": (_divide_by_power_of_two,),
    "pointwise.pow": (_power,),
    "pointwise.where": (_select, _choice_of_truths),
    **{f"pointwise.{fn}": (_compared_choice,) for fn in ("eq", "ne", "lt", "le", "gt", "ge")},
}
