"""Calls that ATen refuses for the dtypes of their operands, though torch's shape functions let them pass.

They stay ATen calls, so that a model raises what it raises in eager, instead of going on in one of the dtypes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx

from rooftile.frontend.nodes import tensors_of

_OF_ONE_DTYPE = frozenset(
    f"aten.{name}.default" for name in ("linear", "matmul", "mm", "mv", "inner", "addmm", "addmv", "index_put")
)

_OF_FLOATS = frozenset(
    {
        "aten.softmax.int",
        "aten._softmax.default",
        "aten._safe_softmax.default",
        "aten.log_softmax.int",
        "aten._log_softmax.default",
        "aten.gelu.default",
        "aten.silu.default",
        "aten.softplus.default",
        "aten.hardswish.default",
        "aten.glu.default",
        "aten.lerp.Scalar",
        "aten.lerp.Tensor",
    }
)


def is_refused(node: fx.Node) -> bool:
    """Whether ATen refuses the call for its dtypes."""
    target = str(node.target)
    if target not in _OF_ONE_DTYPE and target not in _OF_FLOATS:
        return False
    by_themselves = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node)]
    given = [tensor.dtype for argument in by_themselves for tensor in tensors_of(argument)]
    return bool(refusal(target, given, [tensor.dtype for tensor in tensors_of(node)]))


def refusal(target: str, given: Iterable[torch.dtype], results: Iterable[torch.dtype]) -> str:
    """What ATen refuses in a call of ``target`` on tensors of these dtypes, those in lists (indices) left out, by its
    results'; "" where nothing is known to be."""
    dtypes = set(given)
    if target in _OF_ONE_DTYPE and len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        return f"takes tensors of one dtype, not of {names}"
    if target in _OF_FLOATS and not any(dtype.is_floating_point for dtype in results):
        return "takes floats alone"
    return ""
