"""Complex numbers as pairs of reals: what is computed from reals and read as reals again needs no complex tensor.

Kernels compute with no complex dtype. A call that gives complex numbers is imported as two values, the real and the
imaginary parts, where there is a rule for it here; whoever needs the complex tensor itself (an ATen call, a result)
gets it made of the two. What starts from a complex tensor stays a chain of ATen calls unless it meets such a pair, as a
table of rotations does that queries are multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import fx

from rooftile.frontend.importing import Import, Scalar
from rooftile.frontend.provenance import loc_of
from rooftile.frontend.rows import ROWS, DeclinedError, decline_if
from rooftile.ir.core import TensorType, Value
from rooftile.ir.dtypes import C64, C128, F32, F64, from_torch
from rooftile.ir.extern import encode
from rooftile.ir.optable import InferenceError

aten = torch.ops.aten
Pair: TypeAlias = tuple[Value, Value]
Part: TypeAlias = "Value | Scalar"
_REAL = {C64: F32, C128: F64}


class Complex:
    """A complex tensor of an import: its parts and the tensor itself, each made when it is first asked for.

    ``of_reals`` says that it is computed from reals, so that the parts are what there is.
    """

    def __init__(self, make_pair: Callable[[], Pair], make_plain: Callable[[], Value], *, of_reals: bool) -> None:
        self._make_pair, self._make_plain = make_pair, make_plain
        self.of_reals = of_reals

    @cached_property
    def pair(self) -> Pair:
        """The real and the imaginary parts."""
        return self._make_pair()

    @cached_property
    def plain(self) -> Value:
        """The complex tensor, which only ATen calls read."""
        return self._make_plain()


def plainly(argument: Any) -> Any:
    """Arguments for an ATen call: every pair in them as the tensor that it stands for."""
    if isinstance(argument, Complex):
        return argument.plain
    if isinstance(argument, (list, tuple)):
        return [plainly(a) for a in argument]
    if isinstance(argument, dict):
        return {name: plainly(a) for name, a in argument.items()}
    return argument


def by_pairs(
    im: Import, node: fx.Node, arguments: Sequence[Any], options: Mapping[str, Any], extern: Callable[[fx.Node], Any]
) -> Complex | Value | None:
    """A call that reads or gives complex tensors, by its rule; None where it is for ATen. ``extern`` makes the call."""
    shown, target = node.meta.get("val"), node.target
    given = list(_operands([*arguments, *options.values()]))
    of_reals = target in _MADE or any(isinstance(x, complex) or (isinstance(x, Complex) and x.of_reals) for x in given)
    if not isinstance(shown, torch.Tensor) or not (of_reals or given):
        return None
    if not shown.is_complex():
        return _read(im, node, arguments) if of_reals and target in _READ else None
    rule = _RULES.get(target) or (_each(ROWS[target]) if target in _MOVES else None)
    if rule is None or from_torch(shown.dtype) not in _REAL:
        return None
    arguments, options = _as_pairs(im, arguments), _as_pairs(im, options)

    def pair() -> Pair:
        for each in _operands([*arguments, *options.values()]):
            _parts(each)  # before the rule runs, since making them is an import of its own
        im.node, im.expected = node, torch.empty_like(shown, dtype=shown.dtype.to_real())
        with im.b.at(loc_of(node)):
            return rule(im, *arguments, **options)

    if not of_reals:
        return Complex(lambda: _or_split(im, pair, lambda: extern(node)), lambda: extern(node), of_reals=False)
    before = len(im.b.ops)
    try:
        made = pair()
    except (DeclinedError, InferenceError):
        im.forget_from(before)
        return None
    return Complex(lambda: made, lambda: _joined(im, made), of_reals=True)


def _read(im: Import, node: fx.Node, arguments: Sequence[Any]) -> Value:
    im.node, im.expected = node, node.meta["val"]
    return _READ[node.target](im, *arguments[0].pair)


def _or_split(im: Import, pair: Callable[[], Pair], tensor: Callable[[], Value]) -> Pair:
    before = len(im.b.ops)
    try:
        return pair()
    except (DeclinedError, InferenceError):
        im.forget_from(before)
        return _split(im, tensor())


def _operands(argument: Any) -> Iterator[Any]:
    """The complex ones among arguments: tensors and numbers."""
    if isinstance(argument, (Complex, complex)) or (isinstance(argument, Value) and argument.dtype in _REAL):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for each in argument:
            yield from _operands(each)


def _as_pairs(im: Import, argument: Any) -> Any:
    if isinstance(argument, Value) and argument.dtype in _REAL:
        return Complex(lambda: _split(im, argument), lambda: argument, of_reals=False)
    if isinstance(argument, (list, tuple)):
        return [_as_pairs(im, a) for a in argument]
    return {n: _as_pairs(im, a) for n, a in argument.items()} if isinstance(argument, Mapping) else argument


def _split(im: Import, tensor: Value) -> Pair:
    """The parts of a complex tensor, which ATen lays side by side; taken once, unless that was taken back."""
    if tensor in im.parts and all(im.producer(part) for part in im.parts[tensor]):
        return im.parts[tensor]
    type = TensorType(_REAL[tensor.dtype], (*tensor.shape, 2))
    operands, attrs = encode(aten.view_as_real.default, [tensor], {}, [type])
    (both,) = im.b.multi("extern", operands, attrs, name="parts")
    im.parts[tensor] = _unstacked(im, both)
    return im.parts[tensor]


def _joined(im: Import, pair: Pair) -> Value:
    """The complex tensor of two parts."""
    dtype = next(c for c, real in _REAL.items() if real is pair[0].dtype)
    operands, attrs = encode(aten.complex.default, pair, {}, [TensorType(dtype, pair[0].shape)])
    (tensor,) = im.b.multi("extern", operands, attrs, name="complex")
    return tensor


def _unstacked(im: Import, both: Value) -> Pair:
    rank, shape = both.type.rank - 1, both.shape[:-1]
    re, imag = (im.b.reshape(im.b.slice(both, rank, n, 1), shape) for n in range(2))
    return re, imag


def _stacked(im: Import, re: Value, imag: Value) -> Value:
    shape = (*re.shape, 1)
    return im.b.concat([im.b.reshape(re, shape), im.b.reshape(imag, shape)], len(shape) - 1)


def _parts(x: Any) -> tuple[Part, Part | None]:
    """The parts of an operand; a real one has no imaginary part."""
    if isinstance(x, Complex):
        return x.pair
    return (x.real, x.imag) if isinstance(x, complex) else (x, None)


def _mul(im: Import, x: Any, y: Any) -> Pair:
    (a, b), (c, d) = _parts(x), _parts(y)
    if b is None or d is None:
        second = im.pointwise("mul", *((a, d) if b is None else (b, c)))  # type: ignore[arg-type]
        return im.pointwise("mul", a, c), second
    re = im.pointwise("sub", im.pointwise("mul", a, c), im.pointwise("mul", b, d))
    return re, im.pointwise("add", im.pointwise("mul", a, d), im.pointwise("mul", b, c))


def _sum_of(fn: str) -> Callable[..., Pair]:
    def rule(im: Import, x: Any, y: Any, *, alpha: Scalar = 1) -> Pair:
        decline_if(alpha != 1, "a scaled sum of complex numbers")
        (a, b), (c, d) = _parts(x), _parts(y)
        imag = im.pointwise(fn, 0.0 if b is None else b, 0.0 if d is None else d)
        return im.b.broadcast(im.pointwise(fn, a, c), im.shape), im.b.broadcast(imag, im.shape)

    return rule


def _div(im: Import, x: Any, y: Any) -> Pair:
    (a, b), (c, d) = _parts(x), _parts(y)
    if b is None or d is not None:
        raise DeclinedError("a division by complex numbers")
    return im.pointwise("div", a, c), im.pointwise("div", b, c)


def _conj(im: Import, x: Complex) -> Pair:
    re, imag = x.pair
    return re, im.pointwise("neg", imag)


def _neg(im: Import, x: Complex) -> Pair:
    re, imag = x.pair
    return im.pointwise("neg", re), im.pointwise("neg", imag)


def _turned(im: Import, size: Value, angle: Value) -> Pair:
    return im.pointwise("mul", size, im.pointwise("cos", angle)), im.pointwise("mul", size, im.pointwise("sin", angle))


def _exp(im: Import, x: Complex) -> Pair:
    re, imag = x.pair
    return _turned(im, im.pointwise("exp", re), imag)


# What makes complex numbers of reals.
_MADE: dict[Any, Callable[..., Pair]] = {
    aten.view_as_complex.default: _unstacked,
    aten.complex.default: lambda im, re, imag: (re, imag),
    aten.polar.default: _turned,
}

_RULES: dict[Any, Callable[..., Pair]] = {
    **_MADE,
    aten.mul.Tensor: _mul,
    aten.mul.Scalar: _mul,
    aten.add.Tensor: _sum_of("add"),
    aten.sub.Tensor: _sum_of("sub"),
    aten.div.Tensor: _div,
    aten.neg.default: _neg,
    aten.exp.default: _exp,
    aten._conj.default: _conj,
    aten.conj_physical.default: _conj,
    aten.resolve_conj.default: lambda im, x: x.pair,
}

# What makes reals of complex numbers.
_READ: dict[Any, Callable[[Import, Value, Value], Value]] = {
    aten.view_as_real.default: _stacked,
    aten.real.default: lambda im, re, imag: re,
    aten.imag.default: lambda im, re, imag: imag,
}


def _each(row: Callable[..., Any]) -> Callable[..., Pair]:
    """A row that only moves elements, applied to either part."""

    def of_part(argument: Any, part: int) -> Any:
        if isinstance(argument, Complex):
            return argument.pair[part]
        return [of_part(a, part) for a in argument] if isinstance(argument, list) else argument

    def rule(im: Import, *arguments: Any, **options: Any) -> Pair:
        re, imag = (row(im, *of_part(list(arguments), part), **options) for part in range(2))
        return re, imag

    return rule


# Calls that only move elements, each part as the other.
_MOVES = frozenset(
    {
        aten.view.default,
        aten._unsafe_view.default,
        aten.reshape.default,
        aten.unsqueeze.default,
        aten.squeeze.dim,
        aten.flatten.using_ints,
        aten.expand.default,
        aten.permute.default,
        aten.transpose.int,
        aten.slice.Tensor,
        aten.select.int,
        aten.index.Tensor,
        aten.index_select.default,
        aten.clone.default,
        aten.alias.default,
        aten.repeat.default,
    }
)
