"""Pass ``reassociate``: a product of several tensors is summed in the order that takes far fewer operations.

Where nothing but casts, views, and factors that leave the sum stand between two contractions, one operand of the first
may be multiplied last. What is read may be a part of the first one's result, joined to something else: then the sum is
one of sums over the pieces. It is that, too, where tiles hold the pieces with less padding than the whole. A sum of
products that runs over axes of two tensors is a contraction like others. Before and after, where ``i`` and ``j`` are
long::

    %w = contract[i, j, d](%q[i, d], %k[j, d], out=[i, j])
    %y = contract[i, j, e](%w[i, j], %v[j, e], out=[i, e])

    %first = contract[j, d, e](%k[j, d], %v[j, e], out=[d, e])
    %y = contract[i, d, e](%q[i, d], %first[d, e], out=[i, e])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F16, F32, F64, DType
from rooftile.ir.expr import Size, axis
from rooftile.ir.polynomial import product
from rooftile.passes.base import PassContext, working_on
from rooftile.passes.editing import replaced
from rooftile.passes.regions.contractions import SMALLEST_DOT
from rooftile.passes.regions.forms import MOST_WHOLE
from rooftile.passes.regions.sizes import likely, next_power
from rooftile.passes.rules import linear
from rooftile.passes.rules.orders import FEWER, Order, better_orders
from rooftile.passes.rules.pieces import apply_to_contraction
from rooftile.passes.rules.products import Factor, Product, sum_of_products
from rooftile.passes.switches import permitted


@dataclass(frozen=True)
class Reassociate:
    """Changes the order of contractions where that takes far fewer operations."""

    name: ClassVar[str] = "reassociate"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with every pair of contractions in the cheaper order; the same one where that is how they are."""
        producers = graph.producers()
        for output in [op.output for op in graph.ops if op.name in ("contract", "reduce")]:
            for name, (rule, rewrite) in REWRITES.items():
                op = producers.get(output)
                found = rewrite(graph, op, producers) if op is not None else None
                if op is None or found is None or not permitted(name, output, op.loc):
                    continue
                graph, text = found
                producers = graph.producers()
                reason = f"%{output.name} {text}"
                ctx.ledger.add("reassociated", rule=rule, values=[output.name], reason=reason, locs=[op.loc])
        return graph


Producers = Mapping[Value, Op]
Rewritten = tuple[Graph, str]


def _as_contraction(graph: Graph, op: Op, producers: Producers) -> Rewritten | None:
    product = sum_of_products(op, producers)
    if product is None:
        return None
    return _contracted(graph, op, product), "sums the products of two tensors along axes of both: a product of matrices"


def _in_best_order(graph: Graph, op: Op, producers: Producers) -> Rewritten | None:
    found = better_orders(graph, op, producers)
    if found is None:
        return None
    with working_on(op):
        graph = found.graph
        for order in found.orders:
            graph = _reordered(graph, order)
    where = f"over {len(found.orders)} of its pieces" if found.orders[0].op is not op else "in this order"
    return graph, f"takes {found.fewer:.0f} times fewer products {where}"


def _in_pieces(graph: Graph, op: Op, producers: Producers) -> Rewritten | None:
    cut = apply_to_contraction(graph, op, producers) if op.name == "contract" else None
    if cut is None or not _fit_better(cut[1]):
        return None
    return cut[0], f"sums over {len(cut[1])} pieces, which tiles hold without padding"


# What may be done to a sum, in this order: the rule that it rests on, and the graph with a word about it.
REWRITES: Mapping[str, tuple[str, Callable[[Graph, Op, Producers], Rewritten | None]]] = {
    "product": ("associate", _as_contraction),
    "order": ("associate", _in_best_order),
    "pieces": ("split", _in_pieces),
}


def _fit_better(parts: Sequence[Op]) -> bool:
    """Whether tiles that hold the summed axis of each of ``parts`` whole have fewer positions than one for all."""
    sizes = [_depth(part) for part in parts]
    if not all(isinstance(size, int) for size in sizes) or sum(map(likely, sizes)) > MOST_WHOLE:
        return False
    return sum(_held(likely(size)) for size in sizes) < _held(sum(map(likely, sizes)))


def _depth(op: Op) -> Size:
    return product([size for name, size in op.attrs["axes"] if name not in op.attrs["out"]])


def _held(size: int) -> int:
    return max(SMALLEST_DOT, next_power(size))


def _reordered(graph: Graph, order: Order) -> Graph:
    op = order.op
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


def _multiply(builder: GraphBuilder, op: Op, order: Order) -> None:
    whole, dtype = order.product, op.inputs[0].dtype
    dtype = F32 if dtype is F16 else dtype  # a longer sum than any before might overflow
    factors = [replace(f, value=builder.cast(f.value, dtype)) for f in whole.factors]
    last = factors.pop(order.last)
    # Few products follow: they need no tensor cores, and what is not rounded here is rounded once less than before.
    wide = op.attrs.get("acc", dtype) if order.first >= FEWER * (order.after - order.first) else dtype
    first = _sum(builder, op, factors, whole.axes, order.kept, wide)
    index = tuple(axis(a, whole.axes[a]) for a in order.kept)
    last = replace(last, value=builder.cast(last.value, wide))
    _sum(builder, op, [last, Factor(first, index)], whole.axes, whole.out, op.output.dtype)


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
