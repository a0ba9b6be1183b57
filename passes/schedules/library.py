"""A library's kernels for the contractions of a region: each becomes an ATen call, what is around them another region.

It is a choice beside schedules, for the tuner: it pays where the library's product is faster by more than it costs to
store its result and read that again::

    region {                                        %c = extern(%x, %w, target="aten.linear.default", ...)
      %c = contract(%x[i, k], %w[j, k])      ->     region {
      %y = gelu(%c)                                   %y = gelu(%c)
    }                                               }

A contraction can be called if its operands are tensors that the region reads, up to permutations, at plain axes. Its
result is rounded to the operands' dtype, as it is where the model is run op by op.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from string import ascii_letters

from rooftile.ir.core import Graph, Op, Value, freeze_attrs, unique_name
from rooftile.ir.dtypes import BF16, F16, F32
from rooftile.ir.expr import Size, axis
from rooftile.ir.extern import encode
from rooftile.ir.polynomial import mul
from rooftile.passes.liveness import live_ops
from rooftile.passes.regions.compose import NoCommonSpace
from rooftile.passes.regions.forms import Unschedulable
from rooftile.passes.schedules.choice import schedule_region
from rooftile.target import Target

_EINSUM = "aten.einsum.default"
_DTYPES = frozenset({BF16, F16, F32})
Letters = tuple[str, ...]


@dataclass(frozen=True)
class Library:
    """The choice to run a region's contractions by these ATen calls, in order."""

    calls: tuple[str, ...]

    def __str__(self) -> str:
        return "library: " + ", ".join(self.calls)


@dataclass(frozen=True)
class _Product:
    """A contraction of two tensors: the axes of their dimensions and of the result's."""

    op: Op
    operands: tuple[Value, Value]
    a: Letters
    b: Letters
    out: Letters

    def call(self) -> tuple[str, tuple[str, ...]]:
        """The ATen op that computes it, and arguments that go before the tensors."""
        *rows, last = self.a
        if len(self.b) == 2 and self.b[1] == last and self.out == (*rows, self.b[0]):
            return "aten.linear.default", ()
        batch, tail = self.b[:-2], self.b[-2:]
        if last == tail[0] and self.out == (*rows, tail[1]) and batch in ((), tuple(rows[:-1])):
            return "aten.matmul.default", ()
        names = dict.fromkeys((*self.a, *self.b, *self.out))
        letters = dict(zip(names, ascii_letters, strict=False))
        a, b, out = ("".join(letters[n] for n in axes) for axes in (self.a, self.b, self.out))
        return _EINSUM, (f"{a},{b}->{out}",)


def library_of(op: Op, target: Target) -> Library | None:
    """The choice for the region ``op``; None where a library can't do it."""
    products = _products(op.regions[0])
    if not products:
        return None
    try:
        for each in library_ops(op, target, ()):
            if each.name == "region":
                schedule_region(each.regions[0], target)
    except (NoCommonSpace, Unschedulable):
        return None
    return Library(tuple(p.call()[0] for p in products))


def multiplied(call: Op) -> Size:
    """The FLOPs of a call that ``library_ops`` made."""
    if call.attrs["target"] != _EINSUM:
        return mul(2, mul(call.output.type.numel, call.inputs[0].shape[-1]))
    equation, (_, *operands) = call.attrs["args"]
    letters, _, out = equation.partition("->")
    shapes = [call.inputs[number].shape for _, number in operands]
    sizes = dict(zip(letters.replace(",", ""), (n for shape in shapes for n in shape), strict=True))
    total: Size = mul(2, call.output.type.numel)
    for letter, size in sizes.items():
        total = total if letter in out else mul(total, size)
    return total


def library_ops(op: Op, target: Target, taken: Collection[str]) -> tuple[Op, ...]:
    """The calls, and the region of the rest, with its schedule, if there is any: for a region op that ``library_of``
    has the choice for. ``taken`` are the names of the graph around.

    Raises:
        NoCommonSpace: the rest has no common iteration space.
        Unschedulable: no roles run the rest on this target.
    """
    body = op.regions[0]
    names = {*taken, *(v.name for v in (*op.inputs, *op.outputs))}
    outside = dict(zip((*body.inputs, *body.outputs), (*op.inputs, *op.outputs), strict=True))
    results: dict[Value, Value] = {}
    calls: list[Op] = []
    for product in _products(body):
        made, dtype = product.op.output, product.operands[0].dtype
        result = outside.get(made) if made.dtype is dtype else None
        if result is None:
            result = Value(unique_name(made.name, names), replace(made.type, dtype=dtype, strides=None))
            names.add(result.name)
        calls.append(_call(product, outside, result))
        results[made] = result
    rest = _rest(body, results)
    if not rest.outputs:
        return tuple(calls)
    attrs = {"name": op.attrs["name"], **schedule_region(rest, target).attrs()}
    inputs, outputs = (tuple(outside.get(v, v) for v in values) for values in (rest.inputs, rest.outputs))
    return (*calls, Op("region", inputs, outputs, freeze_attrs(attrs), (rest,), op.loc))


def _products(body: Graph) -> list[_Product]:
    """The contractions of a region as products of tensors; none if one of them is something else."""
    producers = body.producers()
    found = [_product(op, body, producers) for op in body.ops if op.name == "contract"]
    return [] if None in found else [p for p in found if p is not None]


def _product(op: Op, body: Graph, producers: Mapping[Value, Op]) -> _Product | None:
    sizes = dict(op.attrs["axes"])
    operands = [_tensor(x, m, producers) for x, m in zip(op.inputs, op.attrs["maps"], strict=True)]
    dtypes = {x.dtype for x, _ in operands}
    if len(operands) != 2 or len(dtypes) != 1 or not dtypes <= _DTYPES or len(sizes) > len(ascii_letters):
        return None
    letters = [_letters(x, index, sizes) for x, index in operands]
    (a, left), (b, right) = zip((x for x, _ in operands), letters, strict=True)
    if left is None or right is None or not {a, b} <= set(body.inputs):
        return None
    return _Product(op, (a, b), left, right, tuple(op.attrs["out"]))


def _tensor(x: Value, index: tuple[Size, ...], producers: Mapping[Value, Op]) -> tuple[Value, tuple[Size, ...]]:
    """What ``x`` is a permutation of, and where that is read for ``x`` at ``index``."""
    while (op := producers.get(x)) is not None and op.name == "permute":
        places = dict(zip(op.attrs["perm"], index, strict=True))
        x, index = op.inputs[0], tuple(places[d] for d in range(len(index)))
    return x, index


def _letters(x: Value, index: tuple[Size, ...], sizes: Mapping[str, Size]) -> Letters | None:
    """The axis that each dimension of ``x`` runs along, from end to end; None where ``index`` is more than that."""
    named: dict[Size, str] = {axis(a, n): a for a, n in sizes.items()}
    letters = tuple(named.get(e, "") for e in index)
    whole = all(a and sizes[a] == n for a, n in zip(letters, x.shape, strict=True))
    return letters if whole and len(set(letters)) == len(letters) else None


def _call(product: _Product, outside: Mapping[Value, Value], result: Value) -> Op:
    target, first = product.call()
    tensors: list[Value] = [outside[x] for x in product.operands]
    args = [*first, tensors] if first else tensors
    operands, attrs = encode(target, args, {}, [result.type])
    return Op("extern", tuple(operands), (result,), freeze_attrs(attrs), (), product.op.loc)


def _rest(body: Graph, results: Mapping[Value, Value]) -> Graph:
    """``body`` without the contractions, which reads their ``results``."""
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
