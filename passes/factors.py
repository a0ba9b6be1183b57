"""Pass ``factors``: a positive number that all elements of a maximum are multiplied by leaves it.

The maximum is then taken before the multiplication, and the multiplication that is left for each element stands next to
the subtraction of the maximum: the two are one instruction, a fused multiply-add. Before and after::

    %t = pointwise.mul(%scores, expand(%scale))     %m = reduce.max(%scores, dims=[1])
    %m = reduce.max(%t, dims=[1])                   %n = pointwise.mul(%m, expand(%scale))
    %d = pointwise.sub(%t, expand(%m))              %t = pointwise.mul(%scores, expand(%scale))
                                                    %d = pointwise.sub(%t, expand(%n))

A choice between elements and a number passes the factor on, the number divided by it. It is done in regions that read
or write narrow floats, like what the fused instruction rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar

from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.dtypes import F32
from rooftile.ir.expr import Size
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.base import PassContext
from rooftile.passes.base_two import LARGEST
from rooftile.passes.dtypes import is_on_narrow_floats
from rooftile.passes.editing import with_bodies
from rooftile.passes.liveness import live_ops
from rooftile.passes.numbers import number_in


@dataclass(frozen=True)
class Factors:
    """Takes positive numbers out of maxima and minima in regions on narrow floats."""

    name: ClassVar[str] = "factors"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no maximum has a factor."""
        return with_bodies(graph, without_factors)


def without_factors(body: Graph) -> Graph:
    """``body`` with its maxima taken before multiplications by positive numbers; the same object where there are
    none."""
    if not is_on_narrow_floats(body):
        return body
    factors = _Factors(body)
    if not any(factors.leaving(op) for op in body.ops):
        return body
    rewriting = _Rewriting(body, factors)
    for op in body.ops:
        rewriting.write(op)
    return replace(body, ops=tuple(live_ops(rewriting.builder.ops, body.outputs)))


class _Factors:
    """What values of a body have been multiplied by; ``choices`` are the choices that maxima are taken of, with
    theirs."""

    def __init__(self, body: Graph) -> None:
        self.producers = body.producers()
        self.choices: dict[Value, float] = {}
        for op in body.ops:
            factor = self.leaving(op)
            if factor is not None:
                self._note_choices(op.inputs[0], factor)

    def _note_choices(self, value: Value, factor: float) -> None:
        op = self.producers[value]
        if op.attrs["fn"] == "where":
            self.choices[value] = factor
            for choice in op.inputs[1:]:
                if self.number(choice) is None:
                    self._note_choices(choice, factor)

    def leaving(self, op: Op) -> float | None:
        """The number that leaves ``op``, a maximum or minimum."""
        if op.name != "reduce" or op.output.dtype is not F32:
            return None
        row = COMBINES[op.attrs["fn"]]
        scalar = SCALARS[row.scalar]
        takes = scalar.positive_only and frozenset({0, 1}) in scalar.homogeneous and not row.position
        return self._of(op.inputs[0]) if takes else None

    def _of(self, value: Value) -> float | None:
        """The positive number that every element of ``value`` was multiplied by last; of a choice, all but numbers."""
        op = self.producers.get(value)
        if op is None or op.name != "pointwise" or value.dtype is not F32:
            return None
        if op.attrs["fn"] == "mul":
            number = self.number(op.inputs[1])
            return number if number is not None and number > 0 and isfinite(number) else None
        if op.attrs["fn"] != "where":
            return None
        found = {self._of(v) for v in op.inputs[1:] if self.number(v) is None}
        return found.pop() if len(found) == 1 else None

    def number(self, value: Value) -> float | None:
        """The number that is all that ``value`` holds."""
        number = number_in(value, self.producers.get)
        return None if number is None else float(number)


class _Rewriting:
    """The ops written so far; ``bare`` holds choices before their multiplication."""

    def __init__(self, body: Graph, factors: _Factors) -> None:
        self.factors = factors
        self.bare: dict[Value, Value] = {}
        self.builder = GraphBuilder.beside(body)

    def write(self, op: Op) -> None:
        """Put ``op`` down; a maximum or a choice that has a factor, in front of its multiplication."""
        factor = self.factors.leaving(op) or self.factors.choices.get(op.outputs[0])
        if factor is None:
            self.builder.ops.append(op)
            return
        with self.builder.at(op.loc):
            if op.name == "reduce":
                bare = self.builder.op("reduce", (self._without(op.inputs[0], factor),), op.attrs)
            else:
                choices = (self._without(v, factor) for v in op.inputs[1:])
                bare = self.bare[op.output] = self._lettered(
                    self.builder.pointwise("where", op.inputs[0], *choices), op.output
                )
            self.builder.pointwise("mul", bare, self._spread(factor, op.output.shape))
        self.builder.ops[-1] = replace(self.builder.ops[-1], outputs=op.outputs)

    def _lettered(self, value: Value, like: Value) -> Value:
        """``value``, written last, with the letters of ``like`` for its axes."""
        named = replace(value, type=replace(value.type, axes=like.type.axes))
        self.builder.ops[-1] = replace(self.builder.ops[-1], outputs=(named,))
        return named

    def _without(self, value: Value, factor: float) -> Value:
        """``value`` before it is multiplied; a number divided by the factor."""
        number = self.factors.number(value)
        if number is None:
            return self.bare[value] if value in self.bare else self.factors.producers[value].inputs[0]
        if isfinite(number):  # a mask's lowest number stays one
            number = max(-LARGEST, min(number / factor, LARGEST))
        return self._spread(number, value.shape)

    def _spread(self, number: float, shape: Sequence[Size]) -> Value:
        return self.builder.broadcast(self.builder.constant(number, F32), shape)
