"""A reduction's operand as a sum of products, with the factors that don't vary along the reduced axes told apart.

The walk follows only what the scalar table declares (``factors``, ``terms``, and ``chooses`` where one choice is zero),
views that broadcast, and casts. It stops at everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from rooftile.ir.core import Op, Value
from rooftile.ir.scalar import SCALARS

MOST_TERMS = 4


@dataclass(frozen=True)
class Factor:
    """A factor that is the same all along the reduced axes: ``source`` broadcast so that its dim ``d`` is the operand's
    dim ``dims[d]``;
    ``fn`` applies it (``"mul"`` or ``"div"``)."""

    source: Value
    dims: tuple[int, ...]
    fn: str


@dataclass(frozen=True)
class Chosen:
    """``choice`` with ``product(of)`` in place of its operand ``position``; the other choice is zero."""

    choice: Op
    position: int
    of: tuple[Varying, ...]


Varying: TypeAlias = Value | Chosen


@dataclass(frozen=True)
class Term:
    """``sign * product(varying) * product(invariant)``; ``casts`` are narrowing casts that were passed on the way.

    Where a factor was taken out of a choice, it counts only if the choice falls on it somewhere: ``conditions`` are
    these, each with what it must be.
    """

    sign: int
    varying: tuple[Varying, ...]
    invariant: tuple[Factor, ...] = ()
    casts: tuple[Op, ...] = ()
    conditions: tuple[tuple[Value, bool], ...] = ()

    def times(self, other: Term) -> Term:
        """The product of two terms."""
        return Term(
            self.sign * other.sign,
            self.varying + other.varying,
            self.invariant + other.invariant,
            self.casts + other.casts,
            self.conditions + other.conditions,
        )


def terms(value: Value, reduced: frozenset[int], producers: Mapping[Value, Op]) -> list[Term]:
    """``value`` as a sum of terms; ``reduced`` are its dimensions that are summed over."""
    op = producers.get(value)
    whole = [Term(1, (value,))]
    if op is None:
        return whole
    if op.name == "expand":
        factor = _broadcast(op, reduced)
        return [Term(1, (), (factor,))] if factor else whole
    if op.name == "cast" and op.inputs[0].dtype.is_float and value.dtype.is_float:
        narrow = (op,) if value.dtype.bytes < op.inputs[0].dtype.bytes else ()
        inner = terms(op.inputs[0], reduced, producers)
        return [replace(t, casts=t.casts + narrow) for t in inner] if _gained(inner) else whole
    if op.name != "pointwise":
        return whole
    inner = _through(op, reduced, producers)
    return inner if _gained(inner) and len(inner) <= MOST_TERMS else whole


def _gained(found: list[Term]) -> bool:
    return any(t.invariant for t in found)


def _broadcast(op: Op, reduced: frozenset[int]) -> Factor | None:
    source = op.inputs[0]
    dims = op.attrs["dims"]
    if any(d in reduced and size != 1 for d, size in zip(dims, source.shape, strict=True)):
        return None
    return Factor(source, dims, "mul")


def _through(op: Op, reduced: frozenset[int], producers: Mapping[Value, Op]) -> list[Term]:
    row = SCALARS[op.attrs["fn"]]
    operands = [terms(v, reduced, producers) for v in op.inputs]
    if row.terms:
        return [replace(t, sign=t.sign * s) for s, found in zip(row.terms, operands, strict=True) for t in found]
    for position, (rest, fn) in row.factors.items():
        scaled = _scaled(operands[rest], operands[position], fn)
        if scaled is not None:
            return scaled
    if row.chooses:
        for position, other in ((1, 2), (2, 1)):
            if _is_zero(op.inputs[other], producers) and len(operands[position]) == 1:
                return [_chosen(op, position, operands[position][0])]
    return [Term(1, (op.output,))]


def _is_zero(value: Value, producers: Mapping[Value, Op]) -> bool:
    op = producers.get(value)
    while op is not None and op.name in ("expand", "cast"):
        op = producers.get(op.inputs[0])
    return op is not None and op.name == "constant" and float(op.attrs["value"]) == 0


def _chosen(op: Op, position: int, term: Term) -> Term:
    conditions = (*term.conditions, (op.inputs[0], position == 1))
    return replace(term, varying=(Chosen(op, position, term.varying),), conditions=conditions)


def _scaled(found: list[Term], factor: list[Term], fn: str) -> list[Term] | None:
    """Every term times (or over) ``factor``, where that is a single product; a product of two sums stays as it is,
    since distributing it cancels."""
    if len(factor) != 1:
        return None
    (only,) = factor
    if fn == "mul":
        return [t.times(only) for t in found]
    if only.varying or any(f.fn != "mul" for f in only.invariant):
        return None
    inverse = tuple(replace(f, fn="div") for f in only.invariant)
    return [replace(t.times(replace(only, invariant=())), invariant=t.invariant + inverse) for t in found]
