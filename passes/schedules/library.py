"""A library's kernels for what a region computes: ATen calls, and what is around them another region.

It is a choice beside schedules, for the tuner: it pays where the library is faster by more than it costs to store its
result and read that again::

    region {                                        %c = extern(%x, %w, target="aten.linear.default", ...)
      %c = contract(%x[i, k], %w[j, k])      ->     region {
      %y = gelu(%c)                                   %y = gelu(%c)
    }                                               }

Which calls there are for a region is in ``calls``. Their results are rounded to the operands' dtype, as they are where
the model is run op by op.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.passes.liveness import live_ops
from rooftile.passes.regions.access import NoCommonSpace
from rooftile.passes.regions.forms import Unschedulable
from rooftile.passes.schedules.calls import Call, calls_of
from rooftile.passes.schedules.choice import schedule_region
from rooftile.target import Target


@dataclass(frozen=True)
class Library:
    """The choice to run a region by these ATen calls, in order."""

    calls: tuple[str, ...]

    def __str__(self) -> str:
        return "library: " + ", ".join(self.calls)


def libraries_of(op: Op, target: Target) -> tuple[Library, ...]:
    """The choices for the region ``op``; none where a library can't do it."""
    return tuple(dict.fromkeys(library for library, calls in _choices(op) if _runs(op, calls, target)))


def library_ops(op: Op, library: Library, target: Target, taken: Collection[str]) -> tuple[Op, ...]:
    """The calls, and the region of the rest, with its schedule, if there is any: for a region op of which ``library``
    is one of ``libraries_of``. ``taken`` are the names of the graph around.

    Raises:
        NoCommonSpace: the rest has no common iteration space.
        Unschedulable: no roles run the rest on this target.
    """
    return _ops(op, next(calls for found, calls in _choices(op) if found == library), target, taken)


def _choices(op: Op) -> Iterator[tuple[Library, tuple[Call, ...]]]:
    return ((Library(tuple(c.target for c in calls)), calls) for calls in calls_of(op))


def _runs(op: Op, calls: tuple[Call, ...], target: Target) -> bool:
    try:
        for each in _ops(op, calls, target, ()):
            if each.name == "region":
                schedule_region(each.regions[0], target)
    except (NoCommonSpace, Unschedulable):
        return False
    return True


def _ops(op: Op, calls: tuple[Call, ...], target: Target, taken: Collection[str]) -> tuple[Op, ...]:
    body = op.regions[0]
    names = {*taken, *(v.name for v in (*op.inputs, *op.outputs))}
    outside = dict(zip((*body.inputs, *body.outputs), (*op.inputs, *op.outputs), strict=True))
    results: dict[Value, Value] = {}
    made: list[Op] = []
    for call in calls:
        dtype = call.dtype
        result = outside.get(call.made) if call.made.dtype is dtype else None
        if result is None:
            result = Value(unique_name(call.made.name, names), replace(call.made.type, dtype=dtype, strides=None))
            names.add(result.name)
        made.append(call.op(op.inputs, result))
        results[call.made] = result
    rest = _rest(body, results)
    if not rest.outputs:
        return tuple(made)
    attrs = {"name": op.attrs["name"], **schedule_region(rest, target).attrs()}
    inputs, outputs = (tuple(outside.get(v, v) for v in values) for values in (rest.inputs, rest.outputs))
    return (*made, Op("region", inputs, outputs, freeze_attrs(attrs), (rest,), op.loc))


def _rest(body: Graph, results: Mapping[Value, Value]) -> Graph:
    """``body`` without what calls compute, of which it reads the ``results``."""
    stored = {made: result for made, result in results.items() if made.dtype is result.dtype}
    ops: list[Op] = []
    for op in body.ops:
        made = op.outputs[0]
        if made not in results:
            ops.append(replace(op, inputs=tuple(stored.get(v, v) for v in op.inputs)))
        elif made not in stored:
            ops.append(Op("cast", (results[made],), (made,), freeze_attrs({"dtype": made.dtype}), (), op.loc))
    outputs = tuple(v for v in body.outputs if v not in stored)
    live = live_ops(ops, outputs)
    read = {v for op in live for v in op.inputs}
    inputs = tuple(v for v in (*results.values(), *body.inputs) if v in read)
    return Graph(body.name, inputs, tuple(live), outputs, body.attrs)
