"""The pass ``dtypes``: inside a kernel, narrow floats are a way to store numbers, not to compute with them.

In a region's body every pointwise op, reduction and scan on bf16, fp16 or fp8 is computed in fp32. Before::

    %h = contract[...](%x[i, k], %w[n, k], out=[i, n], acc=f32) : bf16[64, 64]
    %a = pointwise.add(%h, %bias) : bf16[64, 64]
    %y = pointwise.mul(%a, %scale) : bf16[64, 64]

After::

    %h = contract[...](%x[i, k], %w[n, k], out=[i, n], acc=f32) : f32[64, 64]
    %bias_f32 = cast(%bias) : f32[64, 64]
    %a = pointwise.add(%h, %bias_f32) : f32[64, 64]
    %scale_f32 = cast(%scale) : f32[64, 64]
    %y = pointwise.mul(%a, %scale_f32) : f32[64, 64]
    %y_bf16 = cast(%y) : bf16[64, 64]

A value is rounded to its own dtype where that can be seen: as an output, as a contraction's operand (tensor cores want
it so), and where a comparison, a position or a cast to an integer makes a step of it. Roundings to bf16 in between are
left out, each with a note in ``ctx.notes``. fp16 and fp8 end where fp32 does not, so theirs are kept: what overflows in
eager overflows here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf, isnan
from typing import Any, ClassVar

import torch

from rooftile.ir.core import UNKNOWN, Graph, Loc, Op, Value, freeze_attrs, unique_name
from rooftile.ir.dtypes import BF16, F32, DType, compute_type
from rooftile.ir.graph_ops import GRAPH_OPS, infer_graph_op
from rooftile.ir.scalar import COMBINES
from rooftile.passes.base import Note, PassContext, working_on
from rooftile.passes.canonical.casts import holds_exactly
from rooftile.passes.editing import with_bodies
from rooftile.passes.switches import permitted

# The result is one of the operands, its negative, or a whole number beside it: representable where they are.
_EXACT = frozenset({"neg", "abs", "sign", "maximum", "minimum", "where", "floor", "ceil", "round", "trunc"})
# Small errors in the operands can flip the result: these see rounded ones.
_DISCRETE = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"})
_VIEWS = frozenset(name for name, row in GRAPH_OPS.items() if row.view) | {"gather"}


def is_narrow(dtype: DType) -> bool:
    """Whether ``dtype`` is a float that is not computed with."""
    return compute_type(dtype) is not dtype


def is_on_narrow_floats(body: Graph) -> bool:
    """Whether a region reads or writes narrow floats: what it computes in between is rounded to them in the end."""
    return any(is_narrow(v.dtype) for v in (*body.inputs, *body.outputs))


@dataclass(frozen=True)
class Dtypes:
    """Gives the values in regions the dtypes they are computed in; see the module."""

    name: ClassVar[str] = "dtypes"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with each region's body rewritten; the same one where no body computes on narrow floats."""
        return with_bodies(graph, lambda body: _widened(body, ctx))


def _widened(body: Graph, ctx: PassContext) -> Graph:
    if not any(_touches_narrow(op) for op in body.ops):
        return body
    return _Widening(body, ctx).run()


def feeds_computation(body: Graph) -> set[Value]:
    """The values that a pointwise op, reduction, scan or cast reads, directly or through views."""
    found: set[Value] = set()
    for op in reversed(body.ops):
        if op.output in found if op.name in _VIEWS else op.name not in ("contract", "scatter"):
            found.update(op.inputs)
    return found


class _Widening:
    """One body on its way. A narrow value is held as ``stored`` (in its own dtype), as ``wide`` (in fp32, perhaps with
    more bits than its own dtype has), and as ``rounded`` (in fp32, with what its own dtype holds): whichever were asked
    for. A value of another dtype is only ``stored``.
    """

    def __init__(self, body: Graph, ctx: PassContext) -> None:
        self._body = body
        self._ctx = ctx
        self._computed = feeds_computation(body)
        self._names = {v.name for v in body.values()}
        self._named = set(body.inputs)
        self._ops: list[Op] = []
        self._op: Op | None = None
        self._stored: dict[Value, Value] = {v: v for v in body.inputs}
        self._wide: dict[Value, Value] = {}
        self._rounded: dict[Value, Value] = {}
        self._noted: set[Value] = set()

    def run(self) -> Graph:
        """The body with its ops in their dtypes."""
        for op in self._body.ops:
            self._op = op
            rewrite = _WIDENING.get(op.name) if _touches_narrow(op) else None
            with working_on(op):
                (rewrite or _Widening._keep)(self, op)
        outputs = tuple(self.stored(v) for v in self._body.outputs)
        if self._ops == list(self._body.ops) and outputs == self._body.outputs:
            return self._body
        return replace(self._body, ops=tuple(self._ops), outputs=outputs)

    def stored(self, value: Value) -> Value:
        """``value`` in its own dtype."""
        if value not in self._stored:
            held = self._rounded[value] if value in self._rounded else self._wide[value]
            self._stored[value] = self._emit("cast", [held], {"dtype": value.dtype}, value)
        return self._stored[value]

    def rounded(self, value: Value) -> Value:
        """``value`` in the dtype it is computed in, rounded to its own."""
        if not is_narrow(value.dtype):
            return self.stored(value)
        if value not in self._rounded:
            self._rounded[value] = self._emit("cast", [self.stored(value)], {"dtype": F32}, value)
        return self._rounded[value]

    def wide(self, value: Value) -> Value:
        """``value`` in the dtype it is computed in, with all its bits; notes the rounding that is left out."""
        if value not in self._wide:
            return self.rounded(value)
        if value not in self._noted:
            if not permitted("rounding", value, self._loc()):
                return self.rounded(value)
            self._noted.add(value)
            self._ctx.notes.append(
                Note(value.name, f"computed on before it is rounded to {value.dtype}", self._loc().source)
            )
        return self._wide[value]

    def _keep(self, op: Op) -> None:
        """The op as it is, on what its operands are stored as."""
        inputs = tuple(self.stored(v) for v in op.inputs)
        if inputs != op.inputs:
            op = replace(op, inputs=inputs)
        self._ops.append(op)
        self._named.update(op.outputs)
        self._stored.update((value, value) for value in op.outputs)

    def _compute(self, op: Op) -> None:
        fn = op.attrs["fn"]
        discrete = fn in _DISCRETE or (op.name == "reduce" and COMBINES[fn].position)
        operands = [self.rounded(v) if discrete else self.wide(v) for v in op.inputs]
        result = self._emit(op.name, operands, op.attrs, op.output)
        combine = COMBINES[fn].scalar if op.name in ("reduce", "scan") else fn
        more_bits = any(v in self._wide for v in op.inputs)
        self._hold(op.output, result, exact=combine in _EXACT and not more_bits)

    def _hold(self, value: Value, wide: Value, *, exact: bool) -> None:
        """``value`` is now known as ``wide``; its rounding is put off where nothing but bits are at stake."""
        if not is_narrow(value.dtype):
            self._stored[value] = wide
        elif exact:
            self._rounded[value] = wide
        elif value.dtype is BF16:
            self._wide[value] = wide
        else:
            self._stored[value] = self._emit("cast", [wide], {"dtype": value.dtype}, value)

    def _view(self, op: Op) -> None:
        """Of the stored form, so that a cast comes after the read; of the wide one where there are bits to keep."""
        if op.output not in self._computed or all(v in self._stored and v not in self._wide for v in op.inputs):
            self._keep(op)
            return
        with_more_bits = [v for v in op.inputs if v in self._wide]
        operands = [self._wide[v] if v in self._wide else self.rounded(v) for v in op.inputs]
        held = self._wide if with_more_bits else self._rounded
        held[op.output] = self._emit(op.name, operands, op.attrs, op.output)
        if all(v in self._noted for v in with_more_bits):
            self._noted.add(op.output)

    def _contract(self, op: Op) -> None:
        """The sum is fp32 already: it is rounded only where no computation follows, or where its dtype ends sooner."""
        if op.output.dtype is not BF16 or op.output not in self._computed:
            self._keep(op)
            return
        operands = [self.stored(v) for v in op.inputs]
        self._wide[op.output] = self._emit("contract", operands, {**op.attrs, "dtype": F32}, op.output)

    def _cast(self, op: Op) -> None:
        x, out = op.inputs[0], op.output
        operand = self.wide(x) if out.dtype.is_float else self.rounded(x)
        exact = holds_exactly(out.dtype, x.dtype) and x not in self._wide
        wanted = compute_type(out.dtype)
        wide = operand if operand.dtype is wanted else self._emit("cast", [operand], {"dtype": wanted}, out)
        self._hold(out, wide, exact=exact)

    def _constant(self, op: Op) -> None:
        """A number takes part in eager's arithmetic as fp32, with all its bits; beyond the range it is infinite."""
        number, dtype = float(op.attrs["value"]), op.output.dtype
        nearest = float(torch.tensor(number, dtype=dtype.torch))
        number = nearest if isinf(nearest) else number
        wide = self._emit("constant", [], {"value": number, "dtype": F32}, op.output)
        (self._rounded if nearest == number or isnan(number) else self._wide)[op.output] = wide
        self._noted.add(op.output)

    def _emit(self, name: str, inputs: Sequence[Value], attrs: Mapping[str, Any], value: Value) -> Value:
        """An op for another form of ``value``: the first form that is made has its name, others add their dtype."""
        (type,) = infer_graph_op(name, [v.type for v in inputs], attrs)
        name_of_form = unique_name(f"{value.name}_{type.dtype}", self._names) if value in self._named else value.name
        result = Value(name_of_form, replace(type, axes=value.type.axes))
        self._named.add(value)
        self._names.add(name_of_form)
        assert self._op is not None
        self._ops.append(Op(name, tuple(inputs), (result,), freeze_attrs(attrs), (), self._op.loc))
        return result

    def _loc(self) -> Loc:
        return self._op.loc if self._op is not None else UNKNOWN


def _touches_narrow(op: Op) -> bool:
    return any(is_narrow(v.dtype) for v in (*op.inputs, *op.outputs))


_WIDENING: dict[str, Callable[[_Widening, Op], None]] = {
    "pointwise": _Widening._compute,
    "reduce": _Widening._compute,
    "scan": _Widening._compute,
    "contract": _Widening._contract,
    "cast": _Widening._cast,
    "constant": _Widening._constant,
    **dict.fromkeys(_VIEWS, _Widening._view),
}
