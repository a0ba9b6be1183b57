"""Pass ``reassociate``: a product of several tensors is summed in the order that takes far fewer operations.

Where nothing but casts, transposes, and factors that leave the sum stand between two contractions, one operand of the
first may be multiplied last. A sum of products that runs over axes of two tensors is such a contraction, too. Before
and after, where ``i`` and ``j`` are long::

    %w = contract[i, j, d](%q[i, d], %k[j, d], out=[i, j])
    %y = contract[i, j, e](%w[i, j], %v[j, e], out=[i, e])

    %first = contract[j, d, e](%k[j, d], %v[j, e], out=[d, e])
    %y = contract[i, d, e](%q[i, d], %first[d, e], out=[i, e])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F16, F32, F64, DType
from rooftile.ir.expr import Size, axis
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.editing import replaced
from rooftile.passes.rules import linear
from rooftile.passes.rules.products import (
    Factor,
    Product,
    associated,
    behind_casts,
    product_of,
    sum_of_products,
)
from rooftile.passes.rules.terms import terms
from rooftile.passes.switches import permitted

# How many times fewer products the other order must take: it rounds other values on the way, and stores them.
FEWER = 4


@dataclass(frozen=True)
class Reassociate:
    """Changes the order of contractions where that takes far fewer operations."""

    name: ClassVar[str] = "reassociate"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with every pair of contractions in the cheaper order; the same one where that is how they are."""
        producers = graph.producers()
        for output in [op.output for op in graph.ops if op.name in ("contract", "reduce")]:
            op = producers.get(output)
            product = sum_of_products(op, producers) if op is not None else None
            if op is not None and product is not None and permitted("product", output, op.loc):
                graph = _contracted(graph, op, product)
                producers = graph.producers()
                text = f"%{output.name} sums the products of two tensors along axes of both: a product of matrices"
                ctx.ledger.add("reassociated", rule="associate", values=[output.name], reason=text, locs=[op.loc])
                op = producers[output]
            found = _better_order(graph, op, producers) if op is not None else None
            if op is not None and found is not None and permitted("order", output, op.loc):
                with working_on(op):
                    graph = _reordered(graph, op, found)
                producers = graph.producers()
                text = f"in this order %{output.name} takes {found.fewer:.0f} times fewer products"
                ctx.ledger.add("reassociated", rule="associate", values=[output.name], reason=text, locs=[op.loc])
        return graph


@dataclass(frozen=True)
class _Order:
    """All factors but ``last`` are multiplied first, which leaves the axes ``kept``; ``scaled`` says whether factors
    must leave the sum before that."""

    product: Product
    last: int
    kept: tuple[str, ...]
    fewer: float
    scaled: bool


def _better_order(graph: Graph, op: Op, producers: Mapping[Value, Op]) -> _Order | None:
    """The best order of what ``op`` sums and the contraction before it, if that is far better than theirs."""
    outer = product_of(op)
    if outer is None or not op.output.dtype.is_float:
        return None
    for position, factor in enumerate(outer.factors):
        reduced = linear.reduced_dims(op, position)
        found = terms(factor.value, reduced, producers, split=False) if reduced else []
        if len(found) != 1 or len(found[0].varying) != 1 or found[0].conditions:
            continue
        read = behind_casts(found[0].varying[0], factor.index, producers)
        first = producers.get(read.value) if read is not None else None
        inner = product_of(first) if first is not None and first.name == "contract" else None
        whole = associated(outer, position, read, inner) if read is not None and inner is not None else None
        if inner is None or whole is None or first is None:
            continue
        alone = len(graph.users().get(first.output, ())) == 1 and first.output not in graph.outputs
        work = outer.work(outer.axes) + (inner.work(inner.axes) if alone else 0)
        orders = [_order(whole, last, work, bool(found[0].invariant)) for last in range(len(inner.factors))]
        best = max(orders, key=lambda order: order.fewer)
        if best.fewer >= FEWER:
            return best
    return None


def _order(product: Product, last: int, work: int, scaled: bool) -> _Order:
    rest = [f for n, f in enumerate(product.factors) if n != last]
    wanted = product.factors[last].axes.union(product.out)
    first = frozenset().union(*(f.axes for f in rest))
    kept = tuple(a for a in product.axes if a in first and a in wanted)
    fewer = work / (product.work(first) + product.work(wanted.union(kept)))
    return _Order(product, last, kept, fewer, scaled)


def _reordered(graph: Graph, op: Op, order: _Order) -> Graph:
    if order.scaled:
        applied = linear.apply(graph, op)
        assert applied is not None, "what terms found, the rule takes out"
        known = set(graph.ops)
        graph = applied[0]
        op = next(o for o in graph.ops if o not in known and _summed(o) == _summed(op))
    return replaced(graph, op, lambda builder: _multiply(builder, op, order))


def _summed(op: Op) -> tuple[object, ...]:
    """What a contraction or sum runs over: the same after factors have left it."""
    return op.name, *(op.attrs.get(key) for key in ("fn", "dims", "axes", "maps", "out"))


def _contracted(graph: Graph, op: Op, product: Product) -> Graph:
    return replaced(
        graph, op, lambda builder: _sum(builder, op, product.factors, product.axes, product.out, op.output.dtype)
    )


def _multiply(builder: GraphBuilder, op: Op, order: _Order) -> None:
    product, dtype = order.product, op.inputs[0].dtype
    dtype = F32 if dtype is F16 else dtype  # a longer sum than any before might overflow
    factors = [replace(f, value=builder.cast(f.value, dtype)) for f in product.factors]
    last = factors.pop(order.last)
    first = _sum(builder, op, factors, product.axes, order.kept, dtype)
    index = tuple(axis(a, product.axes[a]) for a in order.kept)
    _sum(builder, op, [last, Factor(first, index)], product.axes, product.out, op.output.dtype)


def _sum(
    builder: GraphBuilder,
    op: Op,
    factors: Sequence[Factor],
    axes: Mapping[str, Size],
    out: tuple[str, ...],
    dtype: DType,
) -> Value:
    used = frozenset().union(*(f.axes for f in factors), out)
    sizes = [(a, n) for a, n in axes.items() if a in used]
    acc = op.attrs["acc"] if op.name == "contract" else F64 if op.output.dtype is F64 else F32
    return builder.contract(sizes, [f.value for f in factors], [f.index for f in factors], out, acc=acc, dtype=dtype)
