"""In which order several tensors are multiplied and summed: what each order takes, and the best one.

``sum_d q_d (sum_l w_dl c_jl)  =  sum_l (sum_d q_d w_dl) c_jl``. What a contraction reads may be a part of another's
result, such as one head's rows, and may be joined to other values: then it is the sum of contractions over the pieces,
some of which have a better order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rooftile.ir.core import Graph, Op, Value
from rooftile.passes.regions.view_index import VIEWED_AT
from rooftile.passes.rules import linear
from rooftile.passes.rules.pieces import apply_to_contraction
from rooftile.passes.rules.products import Product, associated, behind_casts, product_of
from rooftile.passes.rules.terms import terms

# How many times fewer products the other order must take: it rounds other values on the way, and stores them.
FEWER = 4


@dataclass(frozen=True)
class Order:
    """Of the ``product`` that ``op`` sums, all factors but ``last`` are multiplied first, which leaves the axes
    ``kept``.

    ``scaled`` says whether factors must leave the sum before that, ``before`` and ``after`` how many products it takes
    as it is written, and in this order.
    """

    op: Op
    product: Product
    last: int
    kept: tuple[str, ...]
    scaled: bool
    before: int
    after: int

    @property
    def first(self) -> int:
        """How many of the products come first."""
        return self.product.work(_axes_without(self.product, self.last))


@dataclass(frozen=True)
class Found:
    """``graph``, in which every contraction of ``orders`` is to be put into that order."""

    graph: Graph
    orders: tuple[Order, ...]
    fewer: float


def better_orders(graph: Graph, op: Op, producers: Mapping[Value, Op]) -> Found | None:
    """The best order of what ``op`` sums and the contraction before it, if it takes far fewer products than theirs:
    as a whole, or where that is in no such order, in pieces."""
    return _better(graph, op, producers, alone=False)


def _better(graph: Graph, op: Op, producers: Mapping[Value, Op], alone: bool) -> Found | None:
    """``alone``: taking it for granted that what else reads parts of the first contraction can do without it."""
    if product_of(op) is None or not op.output.dtype.is_float:
        return None
    whole = _best_order(graph, op, producers, alone)
    if whole is not None and whole.before >= FEWER * whole.after:
        return Found(graph, (whole,), whole.before / whole.after)
    pieces = apply_to_contraction(graph, op, producers) if op.name == "contract" else None
    if pieces is None:
        return None
    split, parts = pieces
    made = split.producers()
    orders = [_best_order(split, part, made, alone) for part in parts]
    before = sum(_work(part) if order is None else order.before for part, order in zip(parts, orders, strict=True))
    better = tuple(order for order in orders if order is not None and order.before >= FEWER * order.after)
    after = before - sum(order.before - order.after for order in better)
    return Found(split, better, before / after) if before >= FEWER * after else None


def _work(op: Op) -> int:
    product = product_of(op)
    assert product is not None
    return product.work(product.axes)


def _best_order(graph: Graph, op: Op, producers: Mapping[Value, Op], alone: bool) -> Order | None:
    """The order that takes the fewest products, of all that begin inside an operand."""
    outer = product_of(op)
    assert outer is not None
    orders: list[Order] = []
    for position, factor in enumerate(outer.factors):
        reduced = linear.reduced_dims(op, position)
        found = terms(factor.value, reduced, producers, split=False) if reduced else []
        if len(found) != 1 or len(found[0].varying) != 1 or found[0].conditions:
            continue
        read = behind_casts(found[0].varying[0], factor.index, producers, VIEWED_AT)
        first = producers.get(read.value) if read is not None else None
        inner = product_of(first) if first is not None and first.name == "contract" else None
        if inner is None or read is None or first is None:
            continue
        whole, scaled = associated(outer, position, read, inner), bool(found[0].invariant)
        after = min(_order(op, whole, last, scaled, 0).after for last in range(len(inner.factors)))
        if outer.work(outer.axes) + _read(whole, inner) < FEWER * after:
            continue
        before = outer.work(outer.axes) + _saved(graph, first, op, _read(whole, inner), producers, alone)
        orders += [_order(op, whole, last, scaled, before) for last in range(len(inner.factors))]
    return min(orders, key=lambda order: order.after / order.before, default=None)


def _read(whole: Product, inner: Product) -> int:
    """How many products the part of ``inner`` takes that is read in ``whole``, whose first factors are its own."""
    return whole.work(frozenset().union(*(f.axes for f in whole.factors[: len(inner.factors)])))


def _order(op: Op, product: Product, last: int, scaled: bool, before: int) -> Order:
    first, wanted = _axes_without(product, last), product.factors[last].axes.union(product.out)
    kept = tuple(a for a in product.axes if a in first and a in wanted)
    after = product.work(first) + product.work(wanted.union(kept))
    return Order(op, product, last, kept, scaled, before, after)


def _axes_without(product: Product, last: int) -> frozenset[str]:
    return frozenset().union(*(f.axes for n, f in enumerate(product.factors) if n != last))


def _saved(graph: Graph, first: Op, op: Op, read: int, producers: Mapping[Value, Op], alone: bool) -> int:
    """How many products of ``first`` are not wanted any more once ``op`` does without it: its share of them, where
    everything else that reads a part of the result can do without it, too."""
    readers = _readers(graph, first.output)
    if first.output in graph.outputs or readers is None or op not in readers:
        return 0
    others = [] if alone else [each for each in readers if each is not op]
    if not all(_better(graph, each, producers, alone=True) for each in others):
        return 0
    return min(read, _work(first) // len(readers))


def _readers(graph: Graph, value: Value) -> list[Op] | None:
    """The ops that read ``value`` behind casts, views and concatenations; None where one of these is a result."""
    users, found, stack = _users(graph), dict[Op, None](), [value]
    while stack:
        for each in users.get(stack.pop(), ()):
            if each.name not in (*VIEWED_AT, "cast", "concat"):
                found[each] = None
            elif each.output in graph.outputs:
                return None
            else:
                stack.append(each.output)
    return list(found)


@lru_cache(maxsize=1)
def _users(graph: Graph) -> Mapping[Value, Sequence[Op]]:
    """Those of the graph that was asked about last, in which most products are left as they are."""
    return graph.users()
