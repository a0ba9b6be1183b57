"""The tensors of a call: are they what the plan was made for?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rooftile.errors import InputError
from rooftile.ir.strides import span
from rooftile.runtime.plan import Buffer

# Kernels read the widest words a GPU has.
ADDRESS_MULTIPLE = 16
# After so many calls that were unlike the one before, each is checked by itself.
_MOST_MISSES = 8


@dataclass(frozen=True)
class Expected:
    """What the plan wants of one argument; ``device`` is None where only ATen reads it."""

    name: str
    device: torch.device | None
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def expected_of(buffer: Buffer, device: torch.device | None, sizes: Mapping[str, int]) -> Expected:
    """What the plan wants of an argument that is ``buffer``."""
    return Expected(buffer.name, device, buffer.type.dtype.torch, buffer.shape(sizes), buffer.strides(sizes))


class Checker:
    """Compares the tensors of one call after another with what the plan wants.

    Mostly they are like those of the call before, which one question to torch's own guards tells; these are exact, so
    that whatever differs in any respect is looked at again.
    """

    def __init__(self, expected: Sequence[Expected]) -> None:
        self._expected = expected
        self._like: Callable[..., bool] | None = None
        self._misses = 0

    def __call__(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raises InputError as ``check`` does."""
        like = self._like
        if like is not None and len(tensors) == len(self._expected) and like(*tensors):
            return
        check(tensors, self._expected)
        self._misses += 1
        if self._misses < _MOST_MISSES:
            self._like = _guard(tensors)


def _guard(tensors: Sequence[torch.Tensor]) -> Callable[..., bool] | None:
    """What says whether other tensors have the same dtypes, devices, shapes, strides and flags; None if that fails."""
    sizes: Any = [list(t.shape) for t in tensors]
    strides: Any = [list(t.stride()) for t in tensors]
    try:
        from torch._C._dynamo.guards import TensorGuards

        guards = TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
        return guards.check if guards.check(*tensors) else None
    except (
        ImportError,
        AttributeError,
        TypeError,
        RuntimeError,
        SystemError,
    ):  # it is torch's own affair, and may change
        return None


def check(tensors: Sequence[torch.Tensor], expected: Sequence[Expected]) -> None:
    """Compare a call's tensors with what the plan wants.

    Raises:
        InputError: with the first tensor that is something else, what it is and what it should be.
    """
    if len(tensors) != len(expected):
        raise InputError(f"the plan takes {len(expected)} tensors, the call brings {len(tensors)}")
    for tensor, want in zip(tensors, expected, strict=True):
        if (
            tensor.dtype is not want.dtype
            or tensor.shape != want.shape
            or tensor.stride() != want.strides
            or (tensor.device != want.device and want.device is not None)
        ):
            _refuse(tensor, want)


def _refuse(tensor: torch.Tensor, want: Expected) -> None:
    """Say what is wrong; nothing, where only strides differ that address nothing."""
    differences = (
        (
            want.device not in (None, tensor.device),
            f"is on {tensor.device}, the plan is for {want.device}",
            f"move it: .to('{want.device}')",
        ),
        (
            tensor.dtype is not want.dtype,
            f"is {tensor.dtype}, the plan is for {want.dtype}",
            f"cast it: .to({want.dtype})",
        ),
        (
            tensor.dim() != len(want.shape),
            f"has {tensor.dim()} dimensions, {tuple(tensor.shape)}; the plan is for {len(want.shape)}, {want.shape}",
            "reshape it, or compile for this shape",
        ),
        (tensor.shape != want.shape, _sizes(tensor, want), "compile for this size, or with dynamic=True"),
        (
            not _same_layout(tensor, want),
            f"has the strides {tensor.stride()}, the plan is for {want.strides}",
            "pass it laid out like the example inputs (for a dense one: .contiguous())",
        ),
    )
    for differs, what, fix in differences:
        if differs:
            raise InputError(f"input {want.name!r} {what}", fix=fix)


def _sizes(tensor: torch.Tensor, want: Expected) -> str:
    wrong = [d for d, (a, b) in enumerate(zip(tensor.shape, want.shape, strict=False)) if a != b]
    dims = ", ".join(f"{tensor.shape[d]} in dimension {d} instead of {want.shape[d]}" for d in wrong)
    return f"has the shape {tuple(tensor.shape)}, the plan is for {want.shape}: {dims}"


def _same_layout(tensor: torch.Tensor, want: Expected) -> bool:
    """Whether every element is where the plan looks for it."""
    if 0 in want.shape:
        return True
    pairs = zip(want.shape, tensor.stride(), want.strides, strict=True)
    return all(n == 1 or a == b for n, a, b in pairs)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether kernels may read ``tensor`` as it is in memory: its first element is at an address that they may assume,
    and it is not one that torch has only noted to be negated."""
    return tensor.data_ptr() % ADDRESS_MULTIPLE == 0 and not tensor.is_neg()


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor``, or a copy laid out alike where it is not plain."""
    return tensor if is_plain(tensor) else laid_out_copy(tensor)


def laid_out(tensor: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """``tensor``, or a copy of it, with these strides."""
    if tensor.stride() == strides:
        return tensor
    # Along a stride of 0 all elements are one: it is written once, and shown as often as it is wanted.
    once = tensor[tuple(slice(1) if stride == 0 else slice(None) for stride in strides)]
    copy = torch.empty_strided(once.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(once)
    return copy.expand(tensor.shape)


def laid_out_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, without the elements that lie before the first."""
    line = tensor.detach().as_strided((span(tensor.shape, tensor.stride()),), (1,))
    return line.clone().resolve_neg().as_strided(tensor.shape, tensor.stride(), 0)
