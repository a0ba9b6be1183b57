"""Element types of the Triton language: one row each, and how their values are held in numpy arrays.

A float narrower than fp32 is held as fp32 values that are always representable in the narrow type: arithmetic is then
numpy's, followed by one rounding. (fp32 has more than twice the digits of fp16 and bf16, so for ``+ - * /`` rounding
twice equals rounding once.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = npt.NDArray[Any]

BOOLEAN, INTEGRAL, FLOATING = range(3)


@dataclass(frozen=True, eq=False)
class ElementType:
    """``name`` is Triton's; ``held`` is the numpy type of values in a tile, ``raw`` the one of the bits in memory."""

    name: str
    kind: int
    bits: int
    held: np.dtype[Any]
    raw: np.dtype[Any]
    torch: torch.dtype | None
    signed: bool = True

    @property
    def narrow(self) -> bool:
        """True for the floats below fp32, which are held as fp32 and rounded."""
        return self.kind == FLOATING and self.bits < 32

    @property
    def primitive_bitwidth(self) -> int:
        return self.bits

    @property
    def int_bitwidth(self) -> int:
        return self.bits

    @property
    def scalar(self) -> ElementType:
        return self

    def is_floating(self) -> bool:
        return self.kind == FLOATING

    def is_int(self) -> bool:
        return self.kind != FLOATING

    def is_ptr(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def _row(
    name: str, kind: int, bits: int, held: str, raw: str, torch_type: torch.dtype | None, signed: bool = True
) -> ElementType:
    return ElementType(name, kind, bits, np.dtype(held), np.dtype(raw), torch_type, signed)


INT1 = _row("int1", BOOLEAN, 1, "bool", "uint8", torch.bool, signed=False)
INT8 = _row("int8", INTEGRAL, 8, "int8", "int8", torch.int8)
INT16 = _row("int16", INTEGRAL, 16, "int16", "int16", torch.int16)
INT32 = _row("int32", INTEGRAL, 32, "int32", "int32", torch.int32)
INT64 = _row("int64", INTEGRAL, 64, "int64", "int64", torch.int64)
UINT8 = _row("uint8", INTEGRAL, 8, "uint8", "uint8", torch.uint8, signed=False)
UINT16 = _row("uint16", INTEGRAL, 16, "uint16", "uint16", torch.uint16, signed=False)
UINT32 = _row("uint32", INTEGRAL, 32, "uint32", "uint32", torch.uint32, signed=False)
UINT64 = _row("uint64", INTEGRAL, 64, "uint64", "uint64", torch.uint64, signed=False)
FP8E4NV = _row("fp8e4nv", FLOATING, 8, "float32", "uint8", torch.float8_e4m3fn)
FP8E5 = _row("fp8e5", FLOATING, 8, "float32", "uint8", torch.float8_e5m2)
FP16 = _row("fp16", FLOATING, 16, "float32", "float16", torch.float16)
BF16 = _row("bf16", FLOATING, 16, "float32", "uint16", torch.bfloat16)
FP32 = _row("fp32", FLOATING, 32, "float32", "float32", torch.float32)
FP64 = _row("fp64", FLOATING, 64, "float64", "float64", torch.float64)

INTEGERS = (INT1, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64)
FLOATS = (FP8E4NV, FP8E5, FP16, BF16, FP32, FP64)
OF_TORCH: dict[torch.dtype, ElementType] = {t.torch: t for t in (*INTEGERS, *FLOATS) if t.torch is not None}


@cache
def _fp8_values(dtype: ElementType) -> Array:
    """The value of each of the 256 bit patterns of an fp8 type, as fp32."""
    assert dtype.torch is not None
    bits = torch.arange(256, dtype=torch.uint8)
    values: Array = bits.view(dtype.torch).to(torch.float32).numpy()
    return values


def decode(raw: Array, dtype: ElementType) -> Array:
    """Bits from memory (``dtype.raw``) to values (``dtype.held``); never a view of the input."""
    if dtype is BF16:
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype.bits == 8 and dtype.kind == FLOATING:
        return _fp8_values(dtype)[raw]
    return raw.astype(dtype.held)


def encode(values: Array, dtype: ElementType) -> Array:
    """Values (``dtype.held``, already rounded to ``dtype``) to the bits that memory holds."""
    if dtype is BF16:
        bits = np.ascontiguousarray(values).view(np.uint32)
        return (bits >> np.uint32(16)).astype(np.uint16).reshape(np.shape(values))
    if dtype.bits == 8 and dtype.kind == FLOATING:
        return _as_fp8(values, dtype).view(torch.uint8).numpy()
    return np.asarray(values).astype(dtype.raw)


def _to_fp8(values: Array, dtype: ElementType) -> torch.Tensor:
    """The nearest fp8 values, saturating as the hardware's conversion does (torch's may give infinity instead)."""
    assert dtype.torch is not None
    limit = torch.finfo(dtype.torch).max
    return _as_fp8(np.clip(np.asarray(values, dtype=np.float32), -limit, limit), dtype)


def _as_fp8(values: Array, dtype: ElementType) -> torch.Tensor:
    """Values in the range of an fp8 type (or its infinities) as elements of it."""
    assert dtype.torch is not None
    dense = np.ascontiguousarray(values, dtype=np.float32)
    return torch.from_numpy(dense).reshape(np.shape(values)).to(dtype.torch)


def _round_bf16(values: Array) -> Array:
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded: Array = ((bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(values), np.float32("nan"), rounded.reshape(np.shape(values)))


def _round_fp16(values: Array) -> Array:
    return np.asarray(values).astype(np.float16).astype(np.float32)


_ROUND: dict[ElementType, Callable[[Array], Array]] = {
    BF16: _round_bf16,
    FP16: _round_fp16,
    FP8E4NV: lambda values: _to_fp8(values, FP8E4NV).to(torch.float32).numpy(),
    FP8E5: lambda values: _to_fp8(values, FP8E5).to(torch.float32).numpy(),
}


def rounded(values: Array, dtype: ElementType) -> Array:
    """fp32 values rounded to the nearest (ties to even) of a narrow float type; any others as they are."""
    return _ROUND[dtype](values) if dtype.narrow else values


def convert(values: Array, source: ElementType, target: ElementType) -> Array:
    """Values of ``source`` as values of ``target``: to floats to nearest even, floats to integers cut and saturated."""
    if source is target:
        return values
    if target is INT1:
        return np.not_equal(values, 0)
    if target.kind == FLOATING:
        return rounded(np.asarray(values).astype(target.held), target)
    if source.kind == FLOATING and target.bits < 32:  # no instruction for these: they are cut out of an int32
        values = _saturated(np.asarray(values, dtype=np.float64), INT32)
    elif source.kind == FLOATING:
        return _saturated(np.asarray(values, dtype=np.float64), target)
    return np.asarray(values).astype(target.held)


def _saturated(values: Array, target: ElementType) -> Array:
    """fp64 values as integers, truncated; too large or small becomes the nearest integer there is, NaN becomes 0."""
    limits = np.iinfo(target.held)
    too_large = values >= float(limits.max)
    inside = np.where(too_large | np.isnan(values), 0.0, np.maximum(np.trunc(values), float(limits.min)))
    return np.where(too_large, np.array(limits.max, dtype=target.held), inside.astype(target.held))


@lru_cache(maxsize=4096, typed=True)
def of_number(number: bool | int | float) -> ElementType:
    """The type Triton gives to a number written in a kernel."""
    if isinstance(number, bool | np.bool_):
        return INT1
    if isinstance(number, int | np.integer):
        for dtype in (INT32, UINT32, INT64, UINT64):
            if np.iinfo(dtype.held).min <= number <= np.iinfo(dtype.held).max:
                return dtype
        raise ValueError(f"the integer {number} fits no type of the language")
    magnitude = abs(number)
    exact = magnitude in (0.0, float("inf")) or magnitude != magnitude
    return FP32 if exact or 2.0**-126 <= magnitude <= (2 - 2**-23) * 2.0**127 else FP64


@cache
def common(a: ElementType, b: ElementType, *, division: bool = False) -> ElementType:
    """The type in which an operation on two tensors is done (Triton's ``computation_type_impl``)."""
    if a is b and not division:
        return a
    for wide in (FP64, FP32):
        if a is wide or b is wide:
            return wide
    if a is FP16 or b is FP16:
        return FP32 if division else FP16
    if a is BF16 or b is BF16:
        return FP32 if division or a is not b else BF16
    if a.kind == FLOATING and b.kind == FLOATING:
        return a if a is b else FP16
    if a.kind == FLOATING or b.kind == FLOATING:
        raise TypeError(f"no common type of {a} and {b}")
    if division and a.signed != b.signed:
        raise TypeError(f"{a} and {b} cannot be divided: their signedness differs")
    return _common_integer(a, b)


def _common_integer(a: ElementType, b: ElementType) -> ElementType:
    if a.signed == b.signed:
        return a if a.bits > b.bits else b
    unsigned, signed = (b, a) if a.signed else (a, b)
    return unsigned if unsigned.bits >= signed.bits else signed


@lru_cache(maxsize=4096, typed=True)
def common_with_number(dtype: ElementType, number: bool | int | float, *, division: bool = False) -> ElementType:
    """The type of an operation between a tensor and a number; one of a lower or equal kind takes the tensor's type."""
    other = of_number(number)
    if other.kind > dtype.kind:
        return common(dtype, other, division=division)
    if division and dtype in (FP16, BF16):
        return FP32
    if dtype.kind != FLOATING and dtype is not INT1:
        limits = np.iinfo(dtype.held)
        if not limits.min <= number <= limits.max:
            raise ValueError(f"{number} is out of range for {dtype}")
    return dtype
