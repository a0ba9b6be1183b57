"""Tensors to run a region on: random numbers, and integers that are safe as indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rooftile.codegen.example import largest_safe_index
from rooftile.ir.core import Op, TensorType
from rooftile.ir.promises import Promise, promises
from rooftile.ir.strides import span
from rooftile.ir.substitution import evaluate
from rooftile.runtime.plan import strides_in


def example_tensors(op: Op, sizes: Mapping[str, int], device: torch.device) -> list[torch.Tensor]:
    """A tensor for each of the inputs of the op's body, the same ones at each call."""
    index = largest_safe_index((*op.inputs, *op.outputs), dict(sizes))
    generator, promised = torch.Generator(device).manual_seed(0), promises(op.regions[0])
    return [
        _promised(value.type, promised[value], sizes, device, generator)
        if value in promised
        else _example(value.type, sizes, device, generator, index)
        for value in op.regions[0].inputs
    ]


def _promised(
    type: TensorType, promise: Promise, sizes: Mapping[str, int], device: torch.device, generator: torch.Generator
) -> torch.Tensor:
    """Ends of segments that are as long as one another, or rows in a random order."""
    (length,), size = (evaluate(s, sizes) for s in type.shape), evaluate(promise.size, sizes)
    if promise.kind == "ends":
        line = torch.arange(1, length + 1, device=device) * size // (length + 1)
    else:
        line = torch.randperm(size, generator=generator, device=device)[:length]
    return line.to(type.dtype.torch)


def _example(
    type: TensorType, sizes: Mapping[str, int], device: torch.device, generator: torch.Generator, index: int
) -> torch.Tensor:
    shape = tuple(evaluate(s, sizes) for s in type.shape)
    strides = strides_in(type, sizes)
    count = span(shape, strides)
    if type.dtype.is_float:
        line = torch.randn(count, generator=generator, device=device).to(type.dtype.torch)
    else:
        highest = 1 if type.dtype.kind == "bool" else index
        line = torch.randint(0, highest + 1, (count,), generator=generator, device=device).to(type.dtype.torch)
    return line.as_strided(shape, strides)


def tolerance(op: Op) -> float:
    """How far apart, as a share of their norm, two results of the op may be that differ in the order of sums."""
    dtypes = [v.dtype.torch for v in (*op.inputs, *op.outputs) if v.dtype.is_float]
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0) + 1e-5


def agree(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], allowed: float) -> bool:
    """Whether all floats agree up to ``allowed``, in the 2-norm over what is finite, and everything else exactly."""
    return all(_agree(a, b, allowed) for a, b in zip(ours, theirs, strict=True))


def _agree(a: torch.Tensor, b: torch.Tensor, allowed: float) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    a, b = a.float(), b.float()
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite) or not torch.equal(a.isnan(), b.isnan()):
        return False
    zero = torch.zeros((), device=b.device)
    difference = torch.where(finite, a - b, zero).norm()
    return bool(difference <= allowed * torch.where(finite, b, zero).norm() + 1e-30)
