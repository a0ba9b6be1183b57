"""The op ``extern``: how an ATen call is written as attributes, and how it is made.

A call that replaces some elements of its first operand (``UPDATES``) can also be made in place.

Tensor operands are the op's inputs. In ``args`` and ``kwargs`` an operand stands as ``("operand", n)``, a list as
``("list", ...)``, and what the IR has no attribute for by its name in torch: ``("device", "cuda:0")``,
``("torch", "contiguous_format")``, ``("complex", 0.0, 1.0)``. Sizes stand as expressions. A view of an operand is
``("permute", ("operand", n), 1, 0)``, and so on for the functions of ``VIEWS``, one around the other. The attribute
``view`` may say which view of what the call returns the op's result is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rooftile.ir.core import Attr, Op, TensorType, Value
from rooftile.ir.dtypes import DType, from_torch
from rooftile.ir.expr import Expr
from rooftile.ir.substitution import evaluate

CALLED_AT = "this ATen op is called by the model at "  # and the line: the note on what a call raises
RESULT: Attr = ("operand", 0)  # in ``view``: what the call returns
_NAMED_IN_TORCH = (torch.dtype, torch.layout, torch.memory_format)
# By the tag of a tuple, what makes the argument from the rest of it.
_NAMED: dict[str, Callable[..., Any]] = {
    "device": torch.device,
    "torch": lambda name: getattr(torch, name),
    "complex": complex,
}

# Views of an operand, by the function's tag: what makes one from a tensor and the rest of the tuple.
VIEWS: dict[str, Callable[..., torch.Tensor]] = {
    "permute": lambda x, *perm: x.permute(perm),
    "reshape": lambda x, *shape: x.reshape(shape),
    "expand": lambda x, *shape: x.expand(shape),
}

# Calls that replace elements of their first operand: ``aten.NAME_.OVERLOAD`` does it in place.
_IN_PLACE = {
    "index_copy": ("default",),
    "index_put": ("default",),
    "index_add": ("default",),
    "index_fill": ("int_Scalar", "int_Tensor"),
    "scatter": ("src", "value", "reduce", "value_reduce"),
    "scatter_add": ("default",),
    "scatter_reduce": ("two",),
    "masked_scatter": ("default",),
}
# Others are, in place, a copy of their second operand into a view of the first.
_WRITTEN_VIEWS = {
    "aten.slice_scatter.default": "aten.slice.Tensor",
    "aten.select_scatter.default": "aten.select.int",
}
UPDATES = frozenset(_WRITTEN_VIEWS) | {f"aten.{name}.{o}" for name, overloads in _IN_PLACE.items() for o in overloads}


def encode(
    target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], types: Sequence[TensorType]
) -> tuple[list[Value], dict[str, Attr]]:
    """The operands and attributes of an ``extern`` that calls ``target`` and returns tensors of ``types``."""
    operands: list[Value] = []
    attrs = encode_call(target, args, kwargs, operands)
    return operands, {**attrs, "types": tuple((t.dtype, t.shape) for t in types)}


def encode_call(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], operands: list[Value]) -> dict[str, Attr]:
    """A call as attributes; the tensors in it that are not among ``operands`` are put behind these."""
    return {
        "target": str(target),
        "args": tuple(_encode(a, operands) for a in args),
        "kwargs": tuple((name, _encode(a, operands)) for name, a in kwargs.items()),
    }


def _encode(argument: Any, operands: list[Value]) -> Attr:
    if isinstance(argument, Value):
        if argument not in operands:
            operands.append(argument)
        return ("operand", operands.index(argument))
    if isinstance(argument, (list, tuple)):
        return ("list", *(_encode(a, operands) for a in argument))
    if isinstance(argument, torch.dtype) and (dtype := from_torch(argument)) is not None:
        return dtype
    if isinstance(argument, _NAMED_IN_TORCH):
        return ("torch", str(argument).removeprefix("torch."))
    if isinstance(argument, torch.device):
        return ("device", str(argument))
    if isinstance(argument, complex):
        return ("complex", argument.real, argument.imag)
    if argument is None or isinstance(argument, (bool, int, float, str, Expr)):
        return argument
    raise TypeError(f"an ATen call with the argument {argument!r} cannot be written down")


def call_extern(op: Op, operands: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    """Make the call.

    Results are tensors of their own, as they are in memory: a view of an operand is copied, and a conjugate or a
    negative that torch has only noted down is computed. There are as many as the op has; a call may give more.
    """
    args, kwargs = _arguments(op, operands, sizes)
    returned = _called(op, op.attrs["target"], *args, **kwargs)
    results = [r for r in (returned if isinstance(returned, (list, tuple)) else [returned]) if r is not None]
    if "view" in op.attrs:
        results[0] = _decode(op.attrs["view"], results, sizes)
    owners = {x.untyped_storage().data_ptr() for x in operands}
    tensors = [r.resolve_conj().resolve_neg() for r in results if isinstance(r, torch.Tensor)][: len(op.outputs)]
    return tuple(t.clone() if t.untyped_storage().data_ptr() in owners else t for t in tensors)


def call_into(op: Op, operands: Sequence[torch.Tensor], result: torch.Tensor, sizes: Mapping[str, int]) -> None:
    """Make the call so that ``result``, a tensor of the one it returns' type, holds what it returns."""
    args, kwargs = _arguments(op, operands, sizes)
    namespace, name, _ = op.attrs["target"].split(".")
    _called(op, f"{namespace}.{name}.out", *args, **kwargs, out=result)


def updated_operand(op: Op) -> Value | None:
    """The operand of which a call in ``UPDATES`` replaces elements; None where the call reads it in another way too."""
    if op.attrs["target"] not in UPDATES:
        return None
    first, *others = op.attrs["args"]
    read_again = _mentions(others, first) or _mentions([v for _, v in op.attrs["kwargs"]], first)
    return None if read_again else op.inputs[first[1]]


def given_by_themselves(op: Op) -> list[Value]:
    """The operands that are arguments of the call, not in a list of such."""
    arguments = (*op.attrs["args"], *(value for _, value in op.attrs["kwargs"]))
    return [op.inputs[a[1]] for a in arguments if isinstance(a, tuple) and a[0] == "operand"]


def _mentions(arguments: Sequence[Attr], operand: Attr) -> bool:
    return any(a == operand or (isinstance(a, tuple) and _mentions(a[1:], operand)) for a in arguments)


def update_in_place(op: Op, operands: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> None:
    """Make a call in ``UPDATES`` so that its first operand becomes what it returns."""
    (first, *args), kwargs = _arguments(op, operands, sizes)
    target = op.attrs["target"]
    if target in _WRITTEN_VIEWS:
        source, *where = args
        _called(op, _WRITTEN_VIEWS[target], first, *where, **kwargs).copy_(source)
    else:
        namespace, name, overload = target.split(".")
        _called(op, f"{namespace}.{name}_.{overload}", first, *args, **kwargs)


def _called(op: Op, target: str, *args: Any, **kwargs: Any) -> Any:
    """What ``target`` returns. What it raises is noted to come from the model's line, which is on no stack."""
    try:
        return find_target(target)(*args, **kwargs)
    except Exception as error:
        error.add_note(f"{CALLED_AT}{op.loc.source or op.loc.module or 'a place that is not known'}")
        raise


def find_target(name: str) -> Any:
    """The ATen (or custom) op of that name, such as ``aten.topk.default``."""
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _arguments(op: Op, operands: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, and those by name."""
    args = [_decode(a, operands, sizes) for a in op.attrs["args"]]
    return args, {name: _decode(a, operands, sizes) for name, a in op.attrs["kwargs"]}


def _decode(argument: Attr, operands: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> Any:
    if isinstance(argument, DType):
        return argument.torch
    if isinstance(argument, Expr):
        return evaluate(argument, sizes)
    if not isinstance(argument, tuple):
        return argument
    tag, *rest = argument
    if tag == "operand":
        return operands[rest[0]]  # type: ignore[index]
    if tag in VIEWS:
        viewed, *how = (_decode(a, operands, sizes) for a in rest)
        return VIEWS[str(tag)](viewed, *how)
    if tag == "list":
        return [_decode(a, operands, sizes) for a in rest]
    return _NAMED[str(tag)](*rest)
