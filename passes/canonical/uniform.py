"""Tensors whose elements are all one known number: how rules recognise and make them.

Their canonical form is a scalar ``constant``, behind one ``expand`` where the tensor has dimensions; the rules here
bring every view of such a tensor into it.
"""

from __future__ import annotations

from math import inf

import torch

from rooftile.ir.core import Op, TensorType
from rooftile.ir.dtypes import DType
from rooftile.ir.ranges import at_least
from rooftile.ir.scalar import COMBINES, SCALARS
from rooftile.passes.canonical.rewrite import Make, Rewriter, Rules
from rooftile.passes.numbers import Number, number_in


def filled(number: Number, type: TensorType, rw: Rewriter) -> Make:
    """A tensor of ``type`` holding ``number`` everywhere."""
    attrs = {"value": number, "dtype": type.dtype}
    if not type.rank:
        return Make("constant", (), attrs)
    return Make("expand", [rw.emit("constant", (), attrs)], {"shape": type.shape, "dims": ()})


def _view_of_uniform(op: Op, rw: Rewriter) -> Make | None:
    number = number_in(op.inputs[0], rw.producer)
    if number is None or (op.name == "expand" and not op.inputs[0].type.rank):
        return None
    return filled(number, op.output.type, rw)


def _joined(op: Op, rw: Rewriter) -> Make | None:
    """Equal numbers beside each other, and padding that goes on as the tensor is."""
    numbers = [number_in(v, rw.producer) for v in op.inputs]
    if op.name == "pad":
        numbers.append(op.attrs["value"])
    if numbers[0] is None or any(repr(number) != repr(numbers[0]) for number in numbers):
        return None
    return filled(numbers[0], op.output.type, rw)


def _fold_pointwise(op: Op, rw: Rewriter) -> Make | None:
    """Compute on numbers as torch does in these dtypes; what torch refuses (an integer divided by zero) stays."""
    numbers = [number_in(v, rw.producer) for v in op.inputs]
    if any(n is None for n in numbers):
        return None
    try:
        operands = [torch.tensor(n, dtype=v.dtype.torch) for n, v in zip(numbers, op.inputs, strict=True)]
        folded = SCALARS[op.attrs["fn"]].reference(*operands).item()
    except RuntimeError:
        return None
    return filled(folded, op.output.type, rw)


def _fold_cast(op: Op, rw: Rewriter) -> Make | None:
    number = number_in(op.inputs[0], rw.producer)
    if number is None:
        return None
    return filled(_converted(number, op.inputs[0].dtype, op.output.dtype), op.output.type, rw)


def _converted(number: Number, source: DType, target: DType) -> Number:
    converted: Number = torch.tensor(number, dtype=source.torch).to(target.torch).item()
    return converted


# By the function that combines: the number that gives itself, however often it is joined to itself; None: every number.
_FIXED: dict[str, Number | None] = {"maximum": None, "minimum": None, "and": None, "or": None, "add": 0, "mul": 1}


def _fold_combine(op: Op, rw: Rewriter) -> Make | None:
    """The largest of equal numbers is that number, and so on: reductions and scans that a number passes unchanged."""
    number = number_in(op.inputs[0], rw.producer)
    row = COMBINES[op.attrs["fn"]]
    sizes = [op.inputs[0].shape[d] for d in op.attrs.get("dims", ())]
    if number is None or row.position or not all(at_least(size, 1) for size in sizes):
        return None
    return filled(number, op.output.type, rw) if _FIXED.get(row.scalar, 2) in (None, number) else None


def _fold_empty(op: Op, rw: Rewriter) -> Make | None:
    """A reduction of no elements is what it starts from."""
    row, dtype = COMBINES[op.attrs["fn"]], op.output.dtype
    if row.position or not any(op.inputs[0].shape[d] == 0 for d in op.attrs["dims"]):
        return None
    if isinstance(row.identity, float):
        return filled(_as_kind(row.identity, dtype), op.output.type, rw)
    return filled(-inf if row.identity == "lowest" else inf, op.output.type, rw) if dtype.is_float else None


def _fold_empty_contract(op: Op, rw: Rewriter) -> Make | None:
    """A sum of no products is zero."""
    summed = [size for name, size in op.attrs["axes"] if name not in op.attrs["out"]]
    return filled(_as_kind(0.0, op.output.dtype), op.output.type, rw) if 0 in summed else None


def _no_elements(op: Op, rw: Rewriter) -> Make | None:
    """A tensor without elements needs no computation, nor anything to be read for it."""
    is_canonical = op.name == "expand" and not op.inputs[0].type.rank
    if is_canonical or 0 not in op.output.shape:
        return None
    return filled(_as_kind(0.0, op.output.dtype), op.output.type, rw)


def _as_kind(number: float, dtype: DType) -> Number:
    """``number`` as the kind of Python number that constants of ``dtype`` hold."""
    return bool(number) if dtype.kind == "bool" else int(number) if dtype.kind == "int" else number


def _fold_size(op: Op, _: Rewriter) -> Make | None:
    size = op.attrs["value"]
    return Make("constant", (), {"value": size, "dtype": op.output.dtype}) if isinstance(size, int) else None


def _fold_iota(op: Op, rw: Rewriter) -> Make | None:
    """``iota`` of size 1 is a zero."""
    zero = 0.0 if op.output.dtype.is_float else 0
    return filled(zero, op.output.type, rw) if op.attrs["size"] == 1 else None


UNIFORM_RULES: Rules = {
    "expand": (_no_elements, _view_of_uniform),
    "reshape": (_no_elements, _view_of_uniform),
    "permute": (_no_elements, _view_of_uniform),
    "slice": (_no_elements, _view_of_uniform),
    "gather": (_no_elements, _view_of_uniform),
    "concat": (_no_elements, _joined),
    "pad": (_no_elements, _joined),
    "pointwise": (_no_elements, _fold_pointwise),
    "cast": (_no_elements, _fold_cast),
    "reduce": (_no_elements, _fold_combine, _fold_empty),
    "contract": (_no_elements, _fold_empty_contract),
    "scan": (_no_elements, _fold_combine),
    "size": (_fold_size,),
    "iota": (_fold_iota,),
}
