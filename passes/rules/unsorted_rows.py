"""Rule Unsort: what is computed for rows in the order of their numbers, and put back, can be computed in their own.

``(f(o_t, s_t))_{t = o^-1(r)}  =  f(r, n_r)`` for the order ``o`` that sorts the numbers ``n`` to ``s``. Where segments
end behind the rows with each number, the one that a row lies in is its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import I64
from rooftile.passes.editing import replaced
from rooftile.passes.liveness import live_ops
from rooftile.passes.rules.elsewhere import Elsewhere, Places, Rows

SORTS = ("aten.sort.default", "aten.sort.stable")


def in_own_order(graph: Graph, op: Op) -> Graph | None:
    """The graph with what the arrangement ``op`` puts back computed where it belongs; None where that needs to know
    where it comes from."""
    producers = graph.producers()
    sort = producers.get(op.inputs[1])
    if sort is None or not _ascends(sort) or sort.outputs[1:] != op.inputs[1:]:
        return None
    if op.output.shape[0] != op.inputs[0].shape[0] or sort.inputs[0].type.rank != 1:
        return None
    made: list[Value] = []

    def make(builder: GraphBuilder) -> None:
        made.append(_from_own_rows(builder, graph, op, sort))

    changed = replaced(graph, op, make)
    (inverse,) = made
    ops = live_ops([each for each in changed.ops if each is not sort], graph.outputs)
    wanted = {x for each in ops for x in each.inputs}
    if inverse in wanted:
        return None
    return replace(changed, ops=tuple(ops)) if wanted.isdisjoint(sort.outputs) else changed


def _ascends(op: Op) -> bool:
    """Whether ``op`` is a call that sorts numbers, the least first."""
    if op.name != "extern" or op.attrs["target"] not in SORTS:
        return False
    flags = [*op.attrs["args"], dict(op.attrs["kwargs"]).get("descending", False)]
    return not any(flag is True for flag in flags)


def _from_own_rows(builder: GraphBuilder, graph: Graph, op: Op, sort: Op) -> Value:
    """Build the rows of ``op`` where they belong; the place that each has in order, which nothing is to read."""
    count = op.inputs[0].shape[0]
    numbers, (ordered, order) = sort.inputs[0], sort.outputs
    rows = Rows((("row", count),))
    own = builder.op("iota", (), {"size": count, "dtype": I64})
    inverse = builder.arrange(own, order, count)
    producers = graph.producers()
    after = _downstream(graph, sort)
    at = Elsewhere(builder, producers, rows, after, lambda each: each.output in after)
    at.known[order, (inverse,)] = own
    at.known[ordered, (inverse,)] = numbers
    for each in graph.ops:
        if each.name == "segment" and (last := _last_number(each, ordered, producers)) is not None:
            at.known[each.output, (inverse,)] = _at_most(builder, builder.cast(numbers, each.output.dtype), last)
    places: Places = (inverse, *(None,) * (op.output.type.rank - 1))
    found = at.read(op.inputs[0], places)
    builder.op("reshape", [found], {"shape": op.output.shape})
    return inverse


def _downstream(graph: Graph, sort: Op) -> frozenset[Value]:
    found = set(sort.outputs)
    for op in graph.ops:
        if op is not sort and not found.isdisjoint(op.inputs) and len(op.outputs) == 1:
            found.update(op.outputs)
    return frozenset(found)


def _last_number(segment: Op, ordered: Value, producers: Mapping[Value, Op]) -> int | None:
    """How many ends there are, where these are how many of ``ordered`` are at most 0, 1, 2, ..."""
    ends = segment.inputs[0]
    made = producers.get(ends)
    if made is not None and made.name == "slice" and made.attrs["starts"] == (0,) and made.attrs["steps"] == (1,):
        made = producers.get(made.inputs[0])
    if made is None or made.name != "reduce" or (made.attrs["fn"], tuple(made.attrs["dims"])) != ("sum", (0,)):
        return None
    passed = _behind_casts(made.inputs[0], producers)
    compared = producers.get(passed)
    if compared is None or compared.attrs.get("fn") != "le":
        return None
    left, right = (_expanded(x, producers) for x in compared.inputs)
    if left is None or right is None or left[1] != (0,) or right[1] != (1,):
        return None
    counted = producers.get(_behind_casts(right[0], producers))
    is_same = _behind_casts(left[0], producers) is ordered and counted is not None and counted.name == "iota"
    (count,) = ends.shape
    return count if is_same and isinstance(count, int) else None


def _expanded(value: Value, producers: Mapping[Value, Op]) -> tuple[Value, tuple[int, ...]] | None:
    op = producers.get(value)
    return (op.inputs[0], tuple(op.attrs["dims"])) if op is not None and op.name == "expand" else None


def _behind_casts(value: Value, producers: Mapping[Value, Op]) -> Value:
    """What ``value`` is a cast of, or several; comparisons and counts of integers are the same in any type that holds
    them."""
    while (op := producers.get(value)) is not None and op.name == "cast":
        value = op.inputs[0]
    return value


def _at_most(builder: GraphBuilder, numbers: Value, last: int) -> Value:
    """``numbers`` between zero and ``last``: of a row with a greater one all ends are behind."""
    for fn, bound in (("minimum", last), ("maximum", 0)):
        number = builder.expand(builder.constant(bound, numbers.dtype), numbers.shape, ())
        numbers = builder.pointwise(fn, numbers, number)
    return numbers
