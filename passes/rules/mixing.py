"""Rule Associate inside a region: a sum over products that are themselves sums is one sum over both axes.

``sum_g w_hg (sum_d q_igd k_jgd)  =  sum_(g,d) (w_hg q_igd) k_jgd``: the factor that varies with ``g`` joins one of the
operands. So a product of matrices for every ``g``, none of which is wanted by itself, becomes one product of matrices
over ``(g, d)``, for more operations: scores whose heads are mixed need not be stored. Whether that pays is for the cost
model to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F16, DType
from rooftile.ir.expr import Size, axis
from rooftile.ir.polynomial import product
from rooftile.ir.ranges import equal
from rooftile.passes.editing import replaced
from rooftile.passes.regions.access import Access
from rooftile.passes.regions.compose import compose
from rooftile.passes.rules import linear
from rooftile.passes.rules.products import Factor, Product, associated, behind_casts, product_of
from rooftile.passes.rules.spreading import spread
from rooftile.passes.rules.steps import Step
from rooftile.passes.rules.terms import terms

Rewritten = tuple[Graph, tuple[Step, ...]]


def apply(body: Graph, reduction: Op) -> Rewritten | None:
    """``body`` with the contraction ``reduction`` as a part of the one that sums its results; None where no contraction
    does, or where roundings of its results to fp16 would be left out, which may overflow."""
    if reduction.name != "contract" or len(reduction.inputs) != 2 or reduction.output.dtype is F16:
        return None
    for outer in body.ops:
        rewritten = _into(body, outer, reduction) if outer.name == "contract" else None
        if rewritten is not None:
            return rewritten
    return None


def _into(body: Graph, outer: Op, inner: Op) -> Rewritten | None:
    producers, summed, nested = body.producers(), product_of(outer), product_of(inner)
    assert summed is not None and nested is not None
    for position, factor in enumerate(summed.factors):
        reduced = linear.reduced_dims(outer, position)
        found = terms(factor.value, reduced, producers, split=False) if reduced else []
        if len(found) != 1 or len(found[0].varying) != 1 or found[0].conditions:
            continue
        read = behind_casts(found[0].varying[0], factor.index, producers)
        if read is None or read.value is not inner.output:
            continue
        if found[0].invariant:
            return linear.apply(body, outer)
        whole = associated(summed, position, read, nested)
        sides = _sides(whole, compose(body), inner)
        if sides is None:
            return None
        make = partial(_contract, op=outer, dtype=inner.output.dtype, whole=whole, sides=sides)
        return replaced(body, outer, make), (_step(outer, inner, position, sides),)
    return None


@dataclass(frozen=True)
class _Sides:
    """The factors of one operand, which are multiplied first, and the other operand."""

    left: tuple[Factor, ...]
    right: Factor


def _sides(whole: Product, access: Access, inner: Op) -> _Sides | None:
    """What the factors that follow the two of ``inner`` join: of these two, the one that fewer sweeps run along, since
    it is computed less often. None where that leaves no product of matrices."""
    if not all(_is_whole(f, whole.axes) for f in whole.factors):
        return None
    read = next(r for r, node in access.nodes.items() if node.op is inner)
    swept = set(access.bound_axes()).difference(access.nodes[read].bound)
    along = [len(access.free[operand] & swept) for operand in access.nodes[read].operands]
    first = along.index(min(along))
    sides = _Sides((whole.factors[first], *whole.factors[2:]), whole.factors[1 - first])
    left = frozenset().union(*(f.axes for f in sides.left))
    summed = frozenset(whole.axes).difference(whole.out)
    return sides if summed <= left & sides.right.axes else None


def _is_whole(factor: Factor, axes: Mapping[str, Size]) -> bool:
    """Whether each of its dimensions is read along an axis of the same size."""
    sizes = {axis(name, size): size for name, size in axes.items()}
    along = zip(factor.index, factor.value.shape, strict=True)
    return all(e == 0 or (e in sizes and equal(sizes[e], n)) for e, n in along)


def _contract(builder: GraphBuilder, op: Op, dtype: DType, whole: Product, sides: _Sides) -> Value:
    """One contraction over an axis that is all summed ones in one."""
    summed = [a for a in whole.axes if a not in whole.out]
    depth = product([whole.axes[a] for a in summed])
    kept = [(a, whole.axes[a]) for a in whole.out]
    inside = next(f"k{n or ''}" for n in range(len(kept) + 1) if f"k{n or ''}" not in whole.out)
    operands: list[Value] = []
    maps: list[tuple[Size, ...]] = []
    for factors in (sides.left, (sides.right,)):
        outer = [a for a in whole.out if any(a in f.axes for f in factors)]
        value = _multiplied(builder, factors, whole, [*outer, *summed], dtype)
        operands.append(builder.reshape(value, [*(whole.axes[a] for a in outer), depth]))
        maps.append((*(axis(a, whole.axes[a]) for a in outer), axis(inside, depth)))
    axes = [*kept, (inside, depth)]
    return builder.contract(axes, operands, maps, whole.out, acc=op.attrs["acc"], dtype=op.output.dtype)


def _multiplied(
    builder: GraphBuilder, factors: Sequence[Factor], whole: Product, names: Sequence[str], dtype: DType
) -> Value:
    """The product of ``factors`` over the axes ``names``, in ``dtype`` once it is multiplied."""
    shape = [whole.axes[a] for a in names]
    wide = max((dtype, *(f.value.dtype for f in factors)), key=lambda d: d.bytes)
    total: Value | None = None
    for factor in factors:
        places = [next((n for n, a in enumerate(names) if e == axis(a, whole.axes[a])), None) for e in factor.index]
        value = spread(builder, builder.cast(factor.value, wide), places, shape)
        total = value if total is None else builder.pointwise("mul", total, value)
    assert total is not None
    return builder.cast(total, dtype)


def _step(outer: Op, inner: Op, position: int, sides: _Sides) -> Step:
    others = [f"%{v.name}" for n, v in enumerate(outer.inputs) if n != position]
    products = ", ".join(f"%{v.name}" for v in inner.inputs)
    left = " * ".join(f"%{f.value.name}" for f in sides.left)
    before = f"contract(contract({products}), {', '.join(others)})"
    return Step("associate", before, f"contract({left}, %{sides.right.value.name})")
