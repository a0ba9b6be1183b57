"""The pass ``base_two``: exponentials to base e become exponentials to base two, where the factor log2(e) costs
nothing.

A GPU has an instruction for ``2 ** x`` only, so ``exp`` multiplies by log2(e) first, once for every element. Where a
positive factor passes through everything that the operand is made of, down to a number that is multiplied anyway, that
number takes it. Before::

    %t = pointwise.mul(%scores, %scale)      %scale = 0.125
    %m = reduce.max(%t, dims=[1])
    %d = pointwise.sub(%t, %m)
    %p = pointwise.exp(%d)

After, with ``%scale = 0.125 * log2(e)``, ``%p = pointwise.exp2(%d)`` and everything else as it was. It is done where
every value on the way serves only exponentials, or comparisons that see no positive factor, as safe softmax asks
whether a row's maximum is -inf; a value of far fewer elements, such as that maximum, may serve more, and is divided by
the factor for that. Only regions that read or write narrow floats are rewritten: in fp32 alone, the other rounding
would be seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import e as euler
from math import inf, isfinite, log2
from typing import ClassVar

from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.dtypes import F32
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.base import PassContext
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.editing import with_bodies
from rooftile.passes.liveness import live_ops
from rooftile.passes.numbers import number_in
from rooftile.passes.regions.sizes import likely

LOG2_E = log2(euler)
FEW = 16  # times fewer elements than the exponentials have: to multiply these costs next to nothing
_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
_UNSCALED = frozenset({0.0, inf, -inf})  # what a positive factor leaves as it is
LARGEST = float.fromhex("0x1.fffffep127")  # in fp32


@dataclass(frozen=True)
class BaseTwo:
    """Rewrites ``exp`` to ``exp2`` in regions on narrow floats."""

    name: ClassVar[str] = "base_two"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no exponential takes its factor for
        nothing."""
        return with_bodies(graph, in_base_two)


def in_base_two(body: Graph) -> Graph:
    """``body`` with the exponentials to base two that cost nothing; the same object where there are none."""
    if not is_on_narrow_floats(body):
        return body
    scaling = _Scaling(body)
    exponentials = [op for op in body.ops if op.attrs.get("fn") == "exp" and op.inputs[0].dtype is F32]
    while exponentials:
        ways = {op: scaling.way(op.inputs[0]) for op in exponentials}
        able = [op for op in exponentials if ways[op] is not None]
        changed = frozenset().union(*(ways[op] or frozenset() for op in able))
        kept = [op for op in able if scaling.serves_only(ways[op] or frozenset(), changed, able)]
        if kept == exponentials:
            return _rewritten(body, frozenset(kept), changed, scaling)
        exponentials = kept
    return body


class _Scaling:
    """Finds the ops that change when a value is multiplied by a positive number without a multiplication of its own.

    ``taken`` says which operands of such an op take the factor.
    """

    def __init__(self, body: Graph) -> None:
        self.producers, self.users = body.producers(), body.users()
        self.outputs = frozenset(body.outputs)
        self.taken: dict[Op, frozenset[int]] = {}
        self._ways: dict[Value, frozenset[Op] | None] = {}

    def way(self, value: Value) -> frozenset[Op] | None:
        """The ops between ``value`` and the numbers that take the factor, these included; None where something doesn't
        take it."""
        if value not in self._ways:
            op = self.producers.get(value)
            found = (
                [way for way in (self.through(op, together) for together in _joint_operands(op)) if way] if op else []
            )
            if op is not None and not found and _spreads(op):
                found = [(frozenset({op}), frozenset())]
            self._ways[value] = min(found, key=lambda way: len(way[0]))[0] if found else None
            if op is not None and found:
                self.taken[op] = min(found, key=lambda way: len(way[0]))[1]
        return self._ways[value]

    def through(self, op: Op, operands: frozenset[int]) -> tuple[frozenset[Op], frozenset[int]] | None:
        """The way through ``op`` if the factor goes into ``operands``, and these."""
        found = frozenset({op})
        for number in sorted(operands):
            way = self.way(op.inputs[number])
            if way is None:
                return None
            found |= way
        return found, operands

    def serves_only(self, way: frozenset[Op], changed: frozenset[Op], exponentials: list[Op]) -> bool:
        """Whether every value of ``way`` is read by changed ops and exponentials alone, or by what sees no factor;
        numbers may be copied, and what has few elements is had without the factor, too."""
        allowed = changed | frozenset(exponentials)
        few = min(likely(op.output.type.numel) for op in exponentials) // FEW
        values = [op.output for op in way if op.name != "constant" and not self._is_copied(op)]
        return all(likely(v.type.numel) <= few or not self.is_wanted(v, allowed) for v in values)

    def is_wanted(self, value: Value, changed: frozenset[Op]) -> bool:
        """Whether ``value`` is wanted without the factor: it is a result, or read by something else than ``changed``
        ops that sees the factor."""
        others = (user for user in self.users.get(value, ()) if user not in changed)
        return value in self.outputs or not all(map(self._is_blind, others))

    def _is_blind(self, op: Op) -> bool:
        """Whether ``op`` gives the same of its operand times a positive factor: it compares it with 0 or an
        infinity."""
        fn = op.attrs.get("fn") if op.name == "pointwise" else None
        return fn in ("isnan", "isinf", "sign") or (
            fn in _COMPARISONS and any(number_in(v, self.producers.get) in _UNSCALED for v in op.inputs)
        )

    def _is_copied(self, op: Op) -> bool:
        """Whether ``op`` spreads a number, or what is multiplied before it is spread: others may read it as it was."""
        source = self.producers.get(op.inputs[0]) if op.name == "expand" else None
        return (source is not None and source.name == "constant") or self.taken.get(op) == frozenset()


def _spreads(op: Op) -> bool:
    """Whether ``op`` spreads fewer elements over more: they cost little to multiply."""
    return op.name == "expand" and op.output.dtype is F32 and op.inputs[0].type.rank < op.output.type.rank


def _joint_operands(op: Op) -> tuple[frozenset[int], ...]:
    """The sets of operands of which all must take a positive factor for the result to take it; none where it can't."""
    if op.name == "constant":
        return (frozenset(),)
    if op.name == "pointwise":
        return SCALARS[op.attrs["fn"]].homogeneous
    if op.name == "reduce":
        row = COMBINES[op.attrs["fn"]]
        return (frozenset({0}),) if frozenset({0, 1}) in SCALARS[row.scalar].homogeneous and not row.position else ()
    return (frozenset(range(len(op.inputs))),) if GRAPH_OPS[op.name].view and op.name != "pad" else ()


def _rewritten(body: Graph, exponentials: frozenset[Op], changed: frozenset[Op], scaling: _Scaling) -> Graph:
    """``body`` with numbers scaled on the changed ways. Numbers, and what spreads them, are copied for other
    readers."""
    copies: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in body.ops:
        if op in exponentials:
            ops.append(
                replace(op, inputs=(copies.get(op.inputs[0], op.inputs[0]),), attrs=freeze_attrs({"fn": "exp2"}))
            )
        elif op not in changed:
            ops.append(op)
        else:
            wanted = scaling.is_wanted(op.output, changed | exponentials)
            ops.extend(_scaled(op, scaling.taken[op], copies, wanted))
    return replace(body, ops=tuple(live_ops(ops, body.outputs)))


def _scaled(op: Op, taken: frozenset[int], copies: dict[Value, Value], wanted: bool) -> tuple[Op, ...]:
    """``op`` with the factor in its operands ``taken``; itself and a copy where it is a number, or spreads something;
    a copy, and from that what it was, where it is ``wanted`` without the factor."""
    inputs = tuple(copies.get(v, v) if n in taken else v for n, v in enumerate(op.inputs))
    copied = op.name == "constant" or (op.name == "expand" and (inputs != op.inputs or not taken))
    if not copied and not wanted:
        return (replace(op, inputs=inputs),)
    copy = copies[op.output] = Value(f"{op.output.name}_log2e", op.output.type)
    if not copied:
        return replace(op, inputs=inputs, outputs=(copy,)), *_multiplied(copy, 1 / LOG2_E, op.output)
    if op.name == "constant":
        attrs = freeze_attrs({**op.attrs, "value": _times_log2_e(op.attrs["value"])})
        return op, replace(op, outputs=(copy,), attrs=attrs)
    before: tuple[Op, ...] = ()
    if not taken and (value := op.inputs[0]) not in copies:
        copies[value] = Value(f"{value.name}_log2e", value.type)
        before = _multiplied(value, LOG2_E, copies[value])
    inputs = inputs if taken else (copies[op.inputs[0]],)
    return op, *before, replace(op, inputs=inputs, outputs=(copy,))


def _multiplied(value: Value, by: float, result: Value) -> tuple[Op, ...]:
    """The ops that multiply ``value``, which gives ``result``."""
    number = Value(f"{value.name}_factor", TensorType(F32, ()))
    factor = Value(f"{value.name}_factors", value.type)
    return (
        Op("constant", (), (number,), freeze_attrs({"value": by, "dtype": F32})),
        Op("expand", (number,), (factor,), freeze_attrs({"shape": value.shape, "dims": ()})),
        Op("pointwise", (value, factor), (result,), freeze_attrs({"fn": "mul"})),
    )


def _times_log2_e(number: float) -> float:
    """The product, kept finite where ``number`` is: a mask's lowest number may not become an infinity, since rows that
    hold nothing else would become NaN."""
    return max(-LARGEST, min(number * LOG2_E, LARGEST)) if isfinite(number) else number
