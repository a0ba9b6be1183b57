"""Which values are written into the memory of the value that they update, so that nothing is copied for that.

Three rules, for a value ``x`` that nobody reads afterwards:

* a kernel that puts elements into ``x`` (its body ends in a ``scatter``) stores them there: it has to, as it makes no
  others;
* an ATen call that replaces some elements of ``x`` (``index_add``) does so in place;
* where a result is to be written over its input ``x``, the kernel that computes the result writes there at once, if it
  reads ``x`` nowhere but at the element that it writes.

An input over which no result is to be written stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rooftile.errors import InternalError
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.extern import updated_operand
from rooftile.ir.replacing import replaced_operands
from rooftile.passes.liveness import live_ops
from rooftile.passes.regions.access import NoCommonSpace
from rooftile.passes.regions.compose import compose


@dataclass(frozen=True)
class InPlace:
    """``ops`` in the order in which they are to run, and ``homes``: for each value that is written into the memory of
    another, that other one, which has memory of its own."""

    ops: tuple[Op, ...]
    homes: Mapping[Value, Value]

    def home(self, value: Value) -> Value:
        """The value whose memory ``value`` is in."""
        return self.homes.get(value, value)


def in_place(graph: Graph) -> InPlace:
    """What can be written in place in a graph of regions and ATen calls. The graph's attribute ``updates`` has pairs
    ``(output, input)``: the output's value is to be written over the input when all has been computed."""
    updates = [(graph.outputs[o], graph.inputs[i]) for o, i in graph.attrs.get("updates") or ()]
    ops = _updates_last(graph.ops, updates)
    search = _Search(graph, ops, updates)
    for op in ops:
        for new, old in _replaced(op):
            search.replace(op, new, old)
    for value, over in updates:
        search.result(value, over)
    return InPlace(tuple(ops), search.homes)


def _updates_last(ops: Sequence[Op], updates: Sequence[tuple[Value, Value]]) -> list[Op]:
    """``ops`` with those at the end that make nothing but the new values of inputs: all that reads the old ones has
    run by then."""
    made, read = {value for value, _ in updates}, {v for op in ops for v in op.inputs}
    last = [op for op in ops if op.name == "region" and all(v in made and v not in read for v in op.outputs)]
    return [op for op in ops if op not in last] + last


def _replaced(op: Op) -> list[tuple[Value, Value]]:
    """The results of ``op`` that are an operand with some elements replaced, each with that operand."""
    if op.name == "extern":
        old = updated_operand(op)
        return [(op.output, old)] if old is not None and len(op.outputs) == 1 else []
    return list(replaced_operands(op).items()) if op.name == "region" else []


class _Search:
    """The homes found so far."""

    def __init__(self, graph: Graph, ops: Sequence[Op], updates: Sequence[tuple[Value, Value]]) -> None:
        self.homes: dict[Value, Value] = {}
        self._inputs, self._outputs = set(graph.inputs), set(graph.outputs)
        self._over = dict(updates)
        self._makers = {v: op for op in ops for v in op.outputs}
        self._place = {v: n for n, op in enumerate(ops) for v in op.outputs}
        self._last_read = {v: n for n, op in enumerate(ops) for v in op.inputs}

    def replace(self, op: Op, new: Value, old: Value) -> None:
        """Let ``op``, which replaces elements of ``old``, write into it.

        Raises:
            InternalError: a kernel that puts elements into a value cannot write there.
        """
        home = self.homes.get(old, old)
        written = home not in self._inputs or (home in self._over.values() and self._leaves_only_over(new, home))
        if written and self._dies(old, new):
            self.homes[new] = home
        elif op.name == "region":
            raise InternalError(
                f"%{new.name} is stored into %{old.name}, which is wanted as it was", where=op.loc.source
            )

    def result(self, value: Value, over: Value) -> None:
        """Let the kernel that makes ``value``, to be written over the input ``over``, write there at once."""
        first = self.homes.get(value, value)
        alike = [first, *(v for v, home in self.homes.items() if home == first)]
        maker = self._makers.get(first)
        if maker is None or maker.name != "region" or over in self.homes.values():
            return
        if not all(self._leaves_only_over(v, over) for v in alike):
            return
        if self._dies(over, first) and _reads_only_where_it_writes(maker, first, over):
            self.homes |= dict.fromkeys(alike, over)

    def _dies(self, old: Value, new: Value) -> bool:
        """Whether ``new`` fits where ``old`` is, which nobody wants once ``new`` is made."""
        a, b = old.type, new.type
        alike = (a.dtype, a.shape, a.strides) == (b.dtype, b.shape, b.strides)
        return alike and old not in self._outputs and self._last_read.get(old, -1) <= self._place[new]

    def _leaves_only_over(self, value: Value, over: Value) -> bool:
        """Whether ``value`` leaves the graph, if at all, as what is written over the input ``over``."""
        return value not in self._outputs or self._over.get(value) == over


def _reads_only_where_it_writes(op: Op, value: Value, over: Value) -> bool:
    """Whether a region reads ``over`` at no element but the one of its result ``value`` that it computes from it. What
    computes another result, which may be stored later, must not read it at all."""
    if over not in op.inputs:
        return True
    body = op.regions[0]
    inside = {b for b, v in zip(body.inputs, op.inputs, strict=False) if v == over}
    (result,) = (b for b, v in zip(body.outputs, op.outputs, strict=True) if v == value)
    others = [b for b in body.outputs if b is not result]
    if any(not inside.isdisjoint((b, *(v for o in live_ops(body.ops, [b]) for v in o.inputs))) for b in others):
        return False
    try:
        access = compose(replace(body, ops=tuple(live_ops(body.ops, [result])), outputs=(result,)))
    except NoCommonSpace:
        return False
    stored = [access.stored_at(number, root).index for number, root in access.roots]
    return all([read.index] == stored for read in access.loads() if read.value in inside)
