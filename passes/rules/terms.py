"""A reduction's operand as a sum of products, with the factors that don't vary along the reduced axes told apart.

The walk follows only what the scalar table declares (``factors``, ``terms``, and ``chooses`` where one choice is zero),
views, and casts. It stops at everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from rooftile.ir.core import Op, Value
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import SCALARS
from rooftile.passes.rules.invariance import is_invariant, operand_dims

MOST_TERMS = 4


@dataclass(frozen=True)
class Applied:
    """``op`` with ``product(of)`` in place of its operand ``position``: a view, or a choice whose other branch is
    zero."""

    op: Op
    position: int
    of: tuple[Varying, ...]


Varying: TypeAlias = Value | Applied


@dataclass(frozen=True)
class Factor:
    """A factor that is the same all along the reduced axes: dim ``d`` of ``value`` runs along the operand's dim
    ``dims[d]``; ``whole`` is the same over all of the operand's dims. ``name`` is what a reader calls it, ``constant``
    whether it is a number, ``fn`` what applies it (``"mul"`` or ``"div"``)."""

    value: Varying
    dims: tuple[int, ...]
    whole: Varying
    name: str
    constant: bool
    fn: str = "mul"


@dataclass(frozen=True)
class Term:
    """``sign * product(varying) * product(invariant)``; ``casts`` are narrowing casts that were passed on the way.
    ``moved`` are further factors, which a reduction's other operand is multiplied by instead.

    Where a factor was taken out of a choice, it counts only if the choice falls on it somewhere: ``conditions`` are
    these, each with what it must be.
    """

    sign: int
    varying: tuple[Varying, ...]
    invariant: tuple[Factor, ...] = ()
    casts: tuple[Op, ...] = ()
    conditions: tuple[tuple[Varying, bool], ...] = ()
    moved: tuple[Varying, ...] = ()

    def times(self, other: Term) -> Term:
        """The product of two terms."""
        return Term(
            self.sign * other.sign,
            self.varying + other.varying,
            self.invariant + other.invariant,
            self.casts + other.casts,
            self.conditions + other.conditions,
        )


def terms(value: Value, reduced: frozenset[int], producers: Mapping[Value, Op], split: bool) -> list[Term]:
    """``value`` as a sum of terms, of one where sums are not to be ``split``; ``reduced`` are its dimensions that are
    summed over."""
    op = producers.get(value)
    if op is None:
        return [Term(1, (value,))]
    if is_invariant(value, reduced, producers):
        return [Term(1, (), (_factor(value, producers),))]
    if op.name == "cast":
        inner = _through_cast(op, reduced, producers, split)
    elif op.name == "pointwise":
        inner = _through(op, reduced, producers, split)
    elif GRAPH_OPS[op.name].view and len(op.inputs) == 1:
        inner = _through_view(op, reduced, producers, split)
    else:
        inner = []
    return inner if any(t.invariant for t in inner) and len(inner) <= MOST_TERMS else [Term(1, (value,))]


def _factor(value: Value, producers: Mapping[Value, Op]) -> Factor:
    op, source = producers[value], value
    while (view := producers.get(source)) is not None and GRAPH_OPS[view.name].view and len(view.inputs) == 1:
        source = view.inputs[0]
    number = (made := producers.get(source)) is not None and made.name == "constant"
    if op.name == "expand":
        return Factor(op.inputs[0], op.attrs["dims"], value, source.name, number)
    return Factor(value, tuple(range(value.type.rank)), value, source.name, number)


def _shown(view: Op, factor: Factor) -> Factor:
    """The factor as ``view`` shows it."""
    whole = Applied(view, 0, (factor.whole,))
    if view.name == "permute":
        return replace(factor, dims=tuple(view.attrs["perm"].index(d) for d in factor.dims), whole=whole)
    return replace(factor, value=whole, dims=tuple(range(view.output.type.rank)), whole=whole)


def _through_cast(op: Op, reduced: frozenset[int], producers: Mapping[Value, Op], split: bool) -> list[Term]:
    before, after = op.inputs[0].dtype, op.output.dtype
    if not (before.is_float and after.is_float):
        return []
    narrow = (op,) if after.bytes < before.bytes else ()
    return [replace(t, casts=t.casts + narrow) for t in terms(op.inputs[0], reduced, producers, split)]


def _through_view(op: Op, reduced: frozenset[int], producers: Mapping[Value, Op], split: bool) -> list[Term]:
    """The terms of what ``op`` shows, each shown the same way."""
    inside = operand_dims(op, reduced)
    if inside is None:
        return []

    def shown(product: tuple[Varying, ...]) -> tuple[Varying, ...]:
        return (Applied(op, 0, product),) if product else ()

    return [
        replace(
            t,
            varying=shown(t.varying),
            invariant=tuple(_shown(op, f) for f in t.invariant),
            conditions=tuple((Applied(op, 0, (c,)), wanted) for c, wanted in t.conditions),
        )
        for t in terms(op.inputs[0], inside, producers, split)
    ]


def _through(op: Op, reduced: frozenset[int], producers: Mapping[Value, Op], split: bool) -> list[Term]:
    row = SCALARS[op.attrs["fn"]]
    is_sum = bool(row.terms) and (split or len(row.terms) == 1)
    if not (is_sum or row.factors or row.chooses):
        return []  # not looked through: all that comes before it, such as every layer before this one
    operands = [terms(v, reduced, producers, split) for v in op.inputs]
    if is_sum:
        signed = [replace(t, sign=t.sign * s) for s, found in zip(row.terms, operands, strict=True) for t in found]
        # A sum in which only numbers stay the same is best summed as it is.
        worth = len(signed) == 1 or any(not f.constant for t in signed for f in t.invariant)
        return signed if worth else []
    for position, (rest, fn) in row.factors.items():
        scaled = _scaled(operands[rest], operands[position], fn)
        if scaled is not None:
            return scaled
    if row.chooses:
        for position, other in ((1, 2), (2, 1)):
            if _is_zero(op.inputs[other], producers) and len(operands[position]) == 1:
                return [_chosen(op, position, operands[position][0])]
    return []


def _is_zero(value: Value, producers: Mapping[Value, Op]) -> bool:
    op = producers.get(value)
    while op is not None and op.name in ("expand", "cast"):
        op = producers.get(op.inputs[0])
    return op is not None and op.name == "constant" and float(op.attrs["value"]) == 0


def _chosen(op: Op, position: int, term: Term) -> Term:
    conditions = (*term.conditions, (op.inputs[0], position == 1))
    return replace(term, varying=(Applied(op, position, term.varying),), conditions=conditions)


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
