"""Rules Commute and Split(i) on one reduction: a factor that doesn't vary along the summed axes leaves the sum, a sum
of terms is a sum of sums.

``sum_k (x_mk * r_m) w_kn  =  (sum_k x_mk w_kn) * r_m`` is Commute;
``sum_k (x_mk - a_m) w_kn  =  sum_k x_mk w_kn - a_m * sum_k w_kn`` is Split, then Commute on its second term.

Terms may cancel: where rows have a mean far from zero, their sums are far larger than their difference. So an operand
in narrow floats is split only into terms that have been rounded before, such as ``x - a`` with ``x`` as it is stored,
and not into products that would be. A factor that varies along the summed axes alone then goes to the other operand,
where it is rounded alike for all terms: ``sum_k (x_mk - a_m) g_k w_kn = sum_k x_mk u_kn - a_m * sum_k u_kn`` with
``u_kn = g_k w_kn``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F32, DType
from rooftile.ir.expr import axis, symbols
from rooftile.passes.editing import replaced
from rooftile.passes.rules.invariance import is_invariant
from rooftile.passes.rules.steps import Step
from rooftile.passes.rules.terms import Applied, Factor, Term, Varying, terms


def apply(
    body: Graph, reduction: Op, split: bool = True, leaves: Callable[[Term, Factor], bool] = lambda *_: True
) -> tuple[Graph, tuple[Step, ...]] | None:
    """``body`` with invariant factors taken out of ``reduction`` (a sum or a contraction), and the steps; None where no
    rule applies. Without ``split`` a sum of terms stays one; factors of terms stay where they are not to be one that
    ``leaves``."""
    if reduction.name not in ("reduce", "contract") or reduction.attrs.get("fn", "sum") != "sum":
        return None
    producers = body.producers()
    for position, operand in enumerate(reduction.inputs):
        reduced = reduced_dims(reduction, position)
        found = terms(operand, reduced, producers, split) if reduced else []
        if len(found) > 1 and any(_is_rounded(t, operand.dtype, producers) for t in found):
            found = _with_moved(reduction, position, found, producers) or terms(operand, reduced, producers, False)
        if any(t.invariant for t in found) and all(leaves(t, factor) for t in found for factor in t.invariant):
            summed = partial(_sum_of_terms, op=reduction, position=position, found=found)
            return replaced(body, reduction, summed), _steps(reduction, position, found)
    return None


def _with_moved(op: Op, position: int, found: Sequence[Term], producers: Mapping[Value, Op]) -> list[Term]:
    """``found`` with the factors moved to the other operand that leave nothing to be rounded; none where that can't
    be."""
    operand = op.inputs[position]
    kept = frozenset(range(operand.type.rank)) - reduced_dims(op, position)
    rounded = [t for t in found if _is_rounded(t, operand.dtype, producers)]
    able = [{v for v in t.varying if isinstance(v, Value) and is_invariant(v, kept, producers)} for t in rounded]
    moving = {v for v in set.intersection(*able) if sum(v in t.varying for t in found) > 1}  # what cancels
    if len(op.inputs) != 2 or not moving or not _runs_along(op, position):
        return []
    moved = [replace(t, varying=_without(t, moving), moved=_only(t, moving)) for t in found]
    alike = all(set(t.moved) in (moving, set()) for t in moved)
    return moved if alike and not any(_is_rounded(t, operand.dtype, producers) for t in moved) else []


def _without(term: Term, moving: Collection[Varying]) -> tuple[Varying, ...]:
    return tuple(v for v in term.varying if v not in moving)


def _only(term: Term, moving: Collection[Varying]) -> tuple[Varying, ...]:
    return tuple(v for v in term.varying if v in moving)


def _runs_along(op: Op, position: int) -> bool:
    """Whether the other operand has the summed axes as dimensions of its own."""
    maps = op.attrs["maps"]
    return op.name == "contract" and all(maps[position][d] in maps[1 - position] for d in reduced_dims(op, position))


def _is_rounded(term: Term, dtype: DType, producers: Mapping[Value, Op]) -> bool:
    """Whether what varies in ``term`` is rounded to ``dtype`` for the first time: a product, or what is wider."""
    if dtype.bytes >= F32.bytes or not term.varying:
        return False
    if len(term.varying) > 1:
        return True
    (factor,) = term.varying
    while isinstance(factor, Applied):
        if len(factor.of) > 1:
            return True
        if not factor.of:
            return False
        (factor,) = factor.of
    while (op := producers.get(factor)) is not None and op.name == "cast":
        factor = op.inputs[0]
    return factor not in producers and factor.dtype.bytes > dtype.bytes


def reduced_dims(op: Op, position: int) -> frozenset[int]:
    """The dimensions of operand ``position`` that run along the summed axes; empty where a dimension mixes summed axes
    with others."""
    if op.name == "reduce":
        return frozenset(op.attrs["dims"])
    out = set(op.attrs["out"])
    dims = set()
    for d, expr in enumerate(op.attrs["maps"][position]):
        names = {s.name for s in symbols(expr)}
        if names - out:
            dims.add(d)
        if names - out and names & out:
            return frozenset()
    return frozenset(dims)


def _sum_of_terms(builder: GraphBuilder, op: Op, position: int, found: Sequence[Term]) -> Value:
    """The terms' sums in the dtype that ``op`` adds in: without its factors a sum may be too large for that of its
    result."""
    total: Value | None = None
    wide = op.attrs["acc"] if op.name == "contract" else op.output.dtype
    moved = next((t.moved for t in found if t.moved), ())
    folded = _folded(builder, op, position, moved) if moved else None
    for term in found:
        part = reduced = _reduced_term(builder, op, position, term, folded if term.moved else None)
        for factor in term.invariant:
            value = builder.cast(_built(builder, factor.value), wide)
            part = builder.pointwise(factor.fn, part, _in_result(builder, op, position, value, factor.dims))
        if term.conditions:
            part = builder.pointwise("where", _somewhere(builder, op, position, term), part, reduced)
        if total is None:
            total = builder.pointwise("neg", part) if term.sign < 0 else part
        else:
            total = builder.pointwise("sub" if term.sign < 0 else "add", total, part)
    assert total is not None
    return builder.cast(total, op.output.dtype)


def _folded(builder: GraphBuilder, op: Op, position: int, factors: Sequence[Varying]) -> Value:
    """The other operand times ``factors``, which vary along the summed axes alone, in its own dtype."""
    other, maps, summed = 1 - position, op.attrs["maps"], sorted(reduced_dims(op, position))
    places = [maps[other].index(maps[position][d]) for d in summed]
    operand = op.inputs[other]
    product = builder.cast(operand, F32)
    for factor in factors:
        value = _built(builder, factor)
        for d, size in enumerate(value.shape):
            if d not in summed and size != 1:
                value = builder.slice(value, d, 0, 1)
        value = builder.reshape(value, [value.shape[d] for d in summed])
        order = sorted(range(len(places)), key=places.__getitem__)
        spread = builder.expand(builder.permute(value, order), operand.shape, sorted(places))
        product = builder.pointwise("mul", product, builder.cast(spread, F32))
    return builder.cast(product, operand.dtype)


def _reduced_term(builder: GraphBuilder, op: Op, position: int, term: Term, folded: Value | None) -> Value:
    """The reduction of what varies in ``term``, with ``folded`` as the other operand, if given; of ones, where nothing
    does."""
    varying = _varying(builder, op.inputs[position], term.varying)
    inputs = [*op.inputs]
    inputs[position] = varying
    if folded is not None:
        inputs[1 - position] = folded
    attrs = dict(op.attrs)
    return builder.op(op.name, inputs, attrs | {"dtype": attrs["acc"]} if op.name == "contract" else attrs)


def _varying(builder: GraphBuilder, operand: Value, product: Sequence[Varying]) -> Value:
    """The product over the dimensions and in the dtype of ``operand``."""
    total: Value | None = None
    for factor in product:
        value = builder.cast(_built(builder, factor), operand.dtype)
        total = value if total is None else builder.pointwise("mul", total, value)
    return builder.broadcast(builder.constant(1.0, operand.dtype), operand.shape) if total is None else total


def _built(builder: GraphBuilder, applied: Varying) -> Value:
    if isinstance(applied, Value):
        return applied
    op, inputs = applied.op, list(applied.op.inputs)
    if len(applied.of) == 1:
        inputs[applied.position] = _built(builder, applied.of[0])
    else:
        inputs[applied.position] = _varying(builder, inputs[applied.position], applied.of)
    if op.name == "pointwise":
        inputs[1:] = [builder.cast(v, inputs[applied.position].dtype) for v in inputs[1:]]
    return builder.op(op.name, inputs, op.attrs)


def _somewhere(builder: GraphBuilder, op: Op, position: int, term: Term) -> Value:
    """Whether the conditions of ``term`` hold anywhere along the reduced axes, over the result's dimensions: a factor
    that no element took, such as the inverse of a sum of nothing, does not count."""
    holds: Value | None = None
    for condition, wanted in term.conditions:
        one = _built(builder, condition)
        one = one if wanted else builder.pointwise("not", one)
        holds = one if holds is None else builder.pointwise("and", holds, one)
    assert holds is not None
    dims = sorted(reduced_dims(op, position))
    found = builder.reduce("any", holds, dims, keepdim=True)
    return _in_result(builder, op, position, found, range(found.type.rank))


def _in_result(builder: GraphBuilder, op: Op, position: int, source: Value, along: Sequence[int]) -> Value:
    """What runs along the dims ``along`` of the operand, and is the same along the reduced ones, over the result's
    dimensions."""
    reduced = reduced_dims(op, position)
    for d, dim in enumerate(along):
        if dim in reduced and source.shape[d] != 1:
            source = builder.slice(source, d, 0, 1)
    kept = [d for d, size in enumerate(source.shape) if size != 1]
    source = builder.reshape(source, [source.shape[d] for d in kept])
    dims = [_result_dim(op, position, along[d]) for d in kept]
    order = sorted(range(len(dims)), key=dims.__getitem__)
    return builder.expand(builder.permute(source, order), op.output.shape, sorted(dims))


def _result_dim(op: Op, position: int, dim: int) -> int:
    """The result's dimension along which dimension ``dim`` of operand ``position`` runs."""
    if op.name == "reduce":
        return dim - len([d for d in op.attrs["dims"] if d < dim])
    expr = op.attrs["maps"][position][dim]
    sizes = dict(op.attrs["axes"])
    return next(n for n, name in enumerate(op.attrs["out"]) if expr == axis(name, sizes[name]))


def _steps(op: Op, position: int, found: Sequence[Term]) -> tuple[Step, ...]:
    name, operand = f"%{op.output.name}", f"%{op.inputs[position].name}"
    what = f"{op.name}({operand})"
    steps = []
    if len(found) > 1:
        signed = [("-" if t.sign < 0 else "+") + f" {op.name}({_product(t)})" for t in found]
        steps.append(Step("split", f"{name} = {what}", f"{name} = {' '.join(signed).removeprefix('+ ')}"))
    for moved in dict.fromkeys(v for term in found for v in term.moved):
        other = op.inputs[1 - position]
        after = f"{other.dtype}(%{other.name} * {_text(moved)}), rounded alike in all terms"
        steps.append(Step("commute", f"{_text(moved)} on {operand}", after))
    for term in found:
        for factor in term.invariant:
            inner = f"{op.name}({' * '.join(map(_text, term.varying)) or '1'})"
            sign = "*" if factor.fn == "mul" else "/"
            steps.append(Step("commute", f"{op.name}({_product(term)})", f"{inner} {sign} %{factor.name}"))
        for cast in term.casts:
            text = f"{cast.output.dtype}(%{cast.inputs[0].name})"
            steps.append(Step("commute", f"{text} before the sum", f"{text} is not rounded there: an approximation"))
    return tuple(steps)


def _text(factor: Varying) -> str:
    if isinstance(factor, Value):
        return "%" + factor.name
    inside = " * ".join(map(_text, factor.of)) or "1"
    if factor.op.name != "pointwise":
        return inside
    inputs = [f"%{v.name}" for v in factor.op.inputs]
    inputs[factor.position] = inside
    return f"{factor.op.attrs['fn']}({', '.join(inputs)})"


def _product(term: Term) -> str:
    parts = list(map(_text, (*term.varying, *term.moved)))
    parts += [("1 / " if f.fn == "div" else "") + "%" + f.name for f in term.invariant]
    return " * ".join(parts) or "1"
