"""Scalar functions: one row each, with what torch computes, what it costs, and how it passes factors, shifts and order.

The algebraic columns are what the fusion rules ask (``rooftile.passes.rules``); no rule knows a function by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from rooftile.ir.dtypes import B1, DType


@dataclass(frozen=True)
class Scalar:
    """A scalar function.

    ``reference`` computes it on torch tensors of one shape. ``result`` is ``"same"`` (the dtype of the last operand) or
    ``"bool"``. ``operands`` says what it takes. ``flops`` is the price of one element, in units of an add. The algebra:

    - ``homogeneous`` holds every operand set ``S`` such that scaling all operands in ``S`` by ``c`` scales the result
      by ``c`` (``c >= 0`` only, where ``positive_only``); ``shifted`` the same for adding ``c``.
    - ``nondecreasing`` lists the operands in which the function never decreases.
    - ``factors`` says which operand is a factor of the rest: ``{operand: (the rest, what applies it again)}``.
    - ``terms`` gives the signs of the operands of a sum.
    - ``turns_shift_into_factor`` holds where ``f(a + b) = f(a) * f(b)``.
    - ``multiplicative`` holds where ``f(a * b) = f(a) * f(b)`` for ``b >= 0``, in the first operand.
    - ``nonnegative`` holds sets of operands: where all of one set are never negative, neither is the result.
    - ``chooses`` holds where operand 0 says which of the others the result is.
    """

    name: str
    arity: int
    reference: Callable[..., torch.Tensor]
    result: Literal["same", "bool"] = "same"
    operands: Literal["any", "float", "int", "bool"] = "any"
    homogeneous: tuple[frozenset[int], ...] = ()
    positive_only: bool = False
    shifted: tuple[frozenset[int], ...] = ()
    nondecreasing: frozenset[int] = frozenset()
    factors: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    terms: tuple[int, ...] = ()
    turns_shift_into_factor: bool = False
    multiplicative: bool = False
    nonnegative: tuple[frozenset[int], ...] = ()
    chooses: bool = False
    flops: int = 1

    def result_dtype(self, operands: tuple[DType, ...]) -> DType:
        """The dtype of the result for operands of these dtypes."""
        return B1 if self.result == "bool" else operands[-1]


def _row(name: str, arity: int, reference: Callable[..., Any], **columns: Any) -> Scalar:
    return Scalar(name, arity, reference, **columns)


def _each(*operands: int) -> tuple[frozenset[int], ...]:
    return tuple(frozenset({o}) for o in operands)


def _jointly(*operands: int) -> tuple[frozenset[int], ...]:
    return (frozenset(operands),)


_FIRST, _BOTH = frozenset({0}), frozenset({0, 1})
_ALWAYS, _IF_FIRST, _IF_BOTH = (frozenset[int](),), (_FIRST,), (_BOTH,)

_ARITHMETIC = (
    _row(
        "add",
        2,
        torch.add,
        terms=(1, 1),
        homogeneous=_jointly(0, 1),
        shifted=_each(0, 1),
        nondecreasing=_BOTH,
        nonnegative=_IF_BOTH,
    ),
    _row("sub", 2, torch.sub, terms=(1, -1), homogeneous=_jointly(0, 1), shifted=_each(0), nondecreasing=_FIRST),
    _row("mul", 2, torch.mul, factors={0: (1, "mul"), 1: (0, "mul")}, homogeneous=_each(0, 1), nonnegative=_IF_BOTH),
    _row(
        "div",
        2,
        torch.div,
        factors={1: (0, "div")},
        operands="float",
        homogeneous=_each(0),
        nonnegative=_IF_BOTH,
        flops=4,
    ),
    _row("floordiv", 2, torch.floor_divide, flops=8),
    _row("truncdiv", 2, lambda a, b: torch.div(a, b, rounding_mode="trunc"), flops=8),
    _row("mod", 2, torch.remainder, flops=8),
    _row("fmod", 2, torch.fmod, flops=8),
    _row("pow", 2, torch.pow, operands="float", multiplicative=True, nonnegative=_IF_FIRST, flops=16),
    _row(
        "maximum",
        2,
        torch.maximum,
        homogeneous=_jointly(0, 1),
        positive_only=True,
        shifted=_jointly(0, 1),
        nondecreasing=_BOTH,
        nonnegative=_each(0, 1),
    ),
    _row(
        "minimum",
        2,
        torch.minimum,
        homogeneous=_jointly(0, 1),
        positive_only=True,
        shifted=_jointly(0, 1),
        nondecreasing=_BOTH,
        nonnegative=_IF_BOTH,
    ),
    _row("neg", 1, torch.neg, terms=(-1,), homogeneous=_each(0)),
    _row("abs", 1, torch.abs, homogeneous=_each(0), positive_only=True, multiplicative=True, nonnegative=_ALWAYS),
    _row("sign", 1, torch.sign, nondecreasing=_FIRST),
)

_SMOOTH_OR_ROUNDING = tuple(
    _row(name, 1, reference, operands="float", nondecreasing=_FIRST if rises else frozenset(), flops=flops)
    for name, reference, rises, flops in (
        ("expm1", torch.expm1, True, 24),
        ("log", torch.log, True, 4),
        ("log2", torch.log2, True, 4),
        ("log1p", torch.log1p, True, 24),
        ("sin", torch.sin, False, 96),
        ("cos", torch.cos, False, 96),
        ("tan", torch.tan, False, 128),
        ("acos", torch.acos, False, 16),
        ("atan", torch.atan, True, 16),
        ("tanh", torch.tanh, True, 8),
        ("erf", torch.erf, True, 20),
        ("erfc", torch.erfc, False, 16),
        ("floor", torch.floor, True, 1),
        ("ceil", torch.ceil, True, 1),
        ("round", torch.round, True, 1),
        ("trunc", torch.trunc, True, 1),
    )
)
_ROOTS = tuple(
    _row(
        name,
        1,
        reference,
        operands="float",
        nondecreasing=_FIRST if rises else frozenset(),
        multiplicative=True,
        nonnegative=_IF_FIRST,
        flops=4,
    )
    for name, reference, rises in (
        ("sqrt", torch.sqrt, True),
        ("rsqrt", torch.rsqrt, False),
        ("reciprocal", torch.reciprocal, False),
    )
)
_FLOAT = (
    *_SMOOTH_OR_ROUNDING,
    *_ROOTS,
    _row("sigmoid", 1, torch.sigmoid, operands="float", nondecreasing=_FIRST, nonnegative=_ALWAYS, flops=8),
    *(
        _row(
            name,
            1,
            fn,
            operands="float",
            nondecreasing=_FIRST,
            turns_shift_into_factor=True,
            nonnegative=_ALWAYS,
            flops=4,
        )
        for name, fn in (("exp", torch.exp), ("exp2", torch.exp2))
    ),
    _row("isnan", 1, torch.isnan, result="bool", operands="float"),
    _row("isinf", 1, torch.isinf, result="bool", operands="float"),
)

_COMPARISONS = tuple(
    _row(name, 2, reference, result="bool")
    for name, reference in (
        ("eq", torch.eq),
        ("ne", torch.ne),
        ("lt", torch.lt),
        ("le", torch.le),
        ("gt", torch.gt),
        ("ge", torch.ge),
    )
)

_BITS = (
    _row("and", 2, torch.bitwise_and),
    _row("or", 2, torch.bitwise_or),
    _row("xor", 2, torch.bitwise_xor),
    _row("not", 1, torch.bitwise_not),
    _row("shl", 2, torch.bitwise_left_shift, operands="int"),
    _row("shr", 2, torch.bitwise_right_shift, operands="int"),
)

_SELECT = (
    _row(
        "where",
        3,
        torch.where,
        homogeneous=_jointly(1, 2),
        shifted=_jointly(1, 2),
        nondecreasing=frozenset({1, 2}),
        nonnegative=_jointly(1, 2),
        chooses=True,
    ),
)

SCALARS: dict[str, Scalar] = {row.name: row for row in (*_ARITHMETIC, *_FLOAT, *_COMPARISONS, *_BITS, *_SELECT)}


@dataclass(frozen=True)
class Combine:
    """How a reduction joins two elements: the function, its identity, and whether it returns the position instead.

    ``scalar`` names the row of ``SCALARS`` that joins two partial results; ``identity`` is what a masked element counts
    as: a number, or ``"lowest"`` or ``"highest"`` for the ends of the dtype's range (minus and plus infinity for
    floats).
    """

    name: str
    scalar: str
    identity: float | Literal["lowest", "highest"]
    reference: Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]
    position: bool = False


def _over_each(function: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]:
    def run(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
        for dim in sorted(dims, reverse=True):
            x = function(x, dim)
        return x

    return run


COMBINES: dict[str, Combine] = {
    row.name: row
    for row in (
        Combine("sum", "add", 0.0, lambda x, dims: torch.sum(x, dims, dtype=x.dtype)),
        Combine("prod", "mul", 1.0, _over_each(lambda x, d: torch.prod(x, d, dtype=x.dtype))),
        Combine("max", "maximum", "lowest", lambda x, dims: torch.amax(x, dims)),
        Combine("min", "minimum", "highest", lambda x, dims: torch.amin(x, dims)),
        Combine("any", "or", 0.0, _over_each(lambda x, d: torch.any(x, d))),
        Combine("all", "and", 1.0, _over_each(lambda x, d: torch.all(x, d))),
        Combine("argmax", "maximum", "lowest", _over_each(lambda x, d: torch.argmax(x, d)), position=True),
        Combine("argmin", "minimum", "highest", _over_each(lambda x, d: torch.argmin(x, d)), position=True),
    )
}

# The reductions to an extreme, by what joins two elements.
EXTREMES: dict[str, str] = {
    row.scalar: row.name for row in COMBINES.values() if row.scalar in ("maximum", "minimum") and not row.position
}

# Running combinations along one dimension, by the combine's name: those that torch has.
SCANS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "sum": lambda x, dim: torch.cumsum(x, dim, dtype=x.dtype),
    "prod": lambda x, dim: torch.cumprod(x, dim, dtype=x.dtype),
    "max": lambda x, dim: torch.cummax(x, dim).values,
    "min": lambda x, dim: torch.cummin(x, dim).values,
}
