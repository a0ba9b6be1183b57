"""The op ``extern``: how an ATen call is written as attributes, and how it is made.

Tensor operands are the op's inputs. In ``args`` and ``kwargs`` an operand stands as ``("operand", n)``, a list as
``("list", ...)``, and what the IR has no attribute for by its name in torch: ``("device", "cuda:0")``,
``("torch", "contiguous_format")``, ``("complex", 0.0, 1.0)``. Sizes stand as expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rooftile.ir.core import Attr, Op, TensorType, Value
from rooftile.ir.dtypes import DType, from_torch
from rooftile.ir.expr import Expr
from rooftile.ir.substitution import evaluate

_NAMED_IN_TORCH = (torch.dtype, torch.layout, torch.memory_format)
# By the tag of a tuple, what makes the argument from the rest of it.
_NAMED: dict[str, Callable[..., Any]] = {
    "device": torch.device,
    "torch": lambda name: getattr(torch, name),
    "complex": complex,
}


def encode(
    target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], types: Sequence[TensorType]
) -> tuple[list[Value], dict[str, Attr]]:
    """The operands and attributes of an ``extern`` that calls ``target`` and returns tensors of ``types``."""
    operands: list[Value] = []
    return operands, {
        "target": str(target),
        "args": tuple(_encode(a, operands) for a in args),
        "kwargs": tuple((name, _encode(a, operands)) for name, a in kwargs.items()),
        "types": tuple((t.dtype, t.shape) for t in types),
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
    negative that torch has only noted down is computed.
    """
    args = [_decode(a, operands, sizes) for a in op.attrs["args"]]
    kwargs = {name: _decode(a, operands, sizes) for name, a in op.attrs["kwargs"]}
    returned = find_target(op.attrs["target"])(*args, **kwargs)
    results = [r for r in (returned if isinstance(returned, (list, tuple)) else [returned]) if r is not None]
    owners = {x.untyped_storage().data_ptr() for x in operands}
    tensors = [r.resolve_conj().resolve_neg() for r in results if isinstance(r, torch.Tensor)]
    return tuple(t.clone() if t.untyped_storage().data_ptr() in owners else t for t in tensors)


def find_target(name: str) -> Any:
    """The ATen (or custom) op of that name, such as ``aten.topk.default``."""
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return found


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
    if tag == "list":
        return [_decode(a, operands, sizes) for a in rest]
    return _NAMED[str(tag)](*rest)
