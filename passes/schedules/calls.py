"""The ATen calls that compute a value of a region from what the region reads.

There are two kinds. A contraction can be called if its operands are tensors that the region reads, up to permutations,
at plain axes. And a region may be known to compute just what one call of the model gives (its attribute ``call``), up
to views; what libraries have of the same under other names is tried as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import ascii_letters

from rooftile.ir.core import Attr, Graph, Loc, Op, Value, freeze_attrs
from rooftile.ir.dtypes import BF16, F16, F32, DType
from rooftile.ir.expr import Size, axis
from rooftile.ir.extern import RESULT
from rooftile.ir.library_calls import Args, Kwargs, alternatives
from rooftile.ir.polynomial import mul

EINSUM = "aten.einsum.default"
_DTYPES = frozenset({BF16, F16, F32})
Letters = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A call that gives ``made``, a value of a region's body, in ``dtype``, which is this ``view`` of what it returns;
    operands in its arguments (see ``ir/extern``) are inputs of the body, by number."""

    made: Value
    target: str
    args: Args
    kwargs: Kwargs
    dtype: DType
    loc: Loc
    view: Attr = RESULT

    def op(self, inputs: tuple[Value, ...], result: Value) -> Op:
        """The call on these ``inputs`` in the place of the body's."""
        read = tuple(dict.fromkeys(_operands((self.args, self.kwargs))))
        places = {number: place for place, number in enumerate(read)}
        attrs = {
            "target": self.target,
            "args": _renumbered(self.args, places),
            "kwargs": _renumbered(self.kwargs, places),
            "types": ((result.dtype, result.shape),),
        }
        if self.view != RESULT:
            attrs["view"] = self.view
        return Op("extern", tuple(inputs[n] for n in read), (result,), freeze_attrs(attrs), (), self.loc)


def calls_of(op: Op) -> Iterator[tuple[Call, ...]]:
    """The ways to compute what matters of the region ``op`` by ATen calls: each a call for some values of its body."""
    if "call" in op.attrs:
        number, target, args, kwargs, view = op.attrs["call"]
        made = op.regions[0].outputs[number]
        for name, bind in alternatives(target).items():
            bound = bind(args, dict(kwargs))
            if bound is not None:
                yield (Call(made, name, *bound, op.outputs[number].dtype, op.loc, view),)
    if products := _products(op.regions[0]):
        yield products


def multiplied(call: Op) -> Size | None:
    """The FLOPs of a call that computes a contraction; None for another."""
    if call.attrs["target"] in _PRODUCTS:
        return mul(2, mul(call.output.type.numel, call.inputs[0].shape[-1]))
    if call.attrs["target"] != EINSUM:
        return None
    equation, (_, *operands) = call.attrs["args"]
    letters, _, out = equation.partition("->")
    shapes = [call.inputs[number].shape for _, number in operands]
    sizes = dict(zip(letters.replace(",", ""), (n for shape in shapes for n in shape), strict=True))
    total: Size = mul(2, call.output.type.numel)
    for letter, size in sizes.items():
        total = total if letter in out else mul(total, size)
    return total


_PRODUCTS = ("aten.linear.default", "aten.matmul.default")


def _products(body: Graph) -> tuple[Call, ...]:
    """The contractions of a region as products of tensors; none if one of them is something else."""
    producers = body.producers()
    found = [_product(op, body, producers) for op in body.ops if op.name == "contract"]
    return tuple(p for p in found if p is not None) if None not in found else ()


def _product(op: Op, body: Graph, producers: Mapping[Value, Op]) -> Call | None:
    sizes = dict(op.attrs["axes"])
    operands = [_tensor(x, m, producers) for x, m in zip(op.inputs, op.attrs["maps"], strict=True)]
    dtypes = {x.dtype for x, _ in operands}
    if len(operands) != 2 or len(dtypes) != 1 or not dtypes <= _DTYPES or len(sizes) > len(ascii_letters):
        return None
    letters = [_letters(x, index, sizes) for x, index in operands]
    (a, left), (b, right) = zip((x for x, _ in operands), letters, strict=True)
    if left is None or right is None or not {a, b} <= set(body.inputs):
        return None
    target, *equation = _product_call(left, right, tuple(op.attrs["out"]))
    tensors = tuple(("operand", body.inputs.index(x)) for x in (a, b))
    args: Args = (*equation, ("list", *tensors)) if equation else tensors
    return Call(op.output, target, args, (), a.dtype, op.loc)


def _product_call(a: Letters, b: Letters, out: Letters) -> tuple[str, ...]:
    """The ATen op that computes a contraction of two tensors with these axes, and an argument that goes before them."""
    *rows, last = a
    if len(b) == 2 and b[1] == last and out == (*rows, b[0]):
        return ("aten.linear.default",)
    batch, tail = b[:-2], b[-2:]
    if last == tail[0] and out == (*rows, tail[1]) and batch in ((), tuple(rows[:-1])):
        return ("aten.matmul.default",)
    letters = dict(zip(dict.fromkeys((*a, *b, *out)), ascii_letters, strict=False))
    left, right, result = ("".join(letters[n] for n in axes) for axes in (a, b, out))
    return EINSUM, f"{left},{right}->{result}"


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


def _operands(argument: Attr) -> Iterator[int]:
    if isinstance(argument, tuple) and argument[:1] == ("operand",):
        yield int(argument[1])  # type: ignore[arg-type]
    elif isinstance(argument, tuple):
        for each in argument:
            yield from _operands(each)


def _renumbered(argument: Attr, places: Mapping[int, int]) -> Attr:
    if not isinstance(argument, tuple):
        return argument
    if argument[:1] == ("operand",):
        return ("operand", places[argument[1]])  # type: ignore[index]
    return tuple(_renumbered(each, places) for each in argument)
