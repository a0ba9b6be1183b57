"""Element types: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Kind = Literal["float", "int", "bool", "complex"]


@dataclass(frozen=True)
class DType:
    """An element type: its name in IR text, its size in bytes, its kind, and the torch dtype it stands for.

    Kernels do not compute with a dtype that isn't ``in_kernels``: only an ``extern`` reads or makes such values.
    """

    name: str
    bytes: int
    kind: Kind
    torch: torch.dtype
    signed: bool = True
    in_kernels: bool = True

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest number of an integer type."""
        bits = 8 * self.bytes
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if self.signed else (0, 2**bits - 1)

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


F64 = DType("f64", 8, "float", torch.float64)
F32 = DType("f32", 4, "float", torch.float32)
F16 = DType("f16", 2, "float", torch.float16)
BF16 = DType("bf16", 2, "float", torch.bfloat16)
F8E4M3 = DType("f8e4m3", 1, "float", torch.float8_e4m3fn)
F8E5M2 = DType("f8e5m2", 1, "float", torch.float8_e5m2)
I64 = DType("i64", 8, "int", torch.int64)
I32 = DType("i32", 4, "int", torch.int32)
I16 = DType("i16", 2, "int", torch.int16)
I8 = DType("i8", 1, "int", torch.int8)
U8 = DType("u8", 1, "int", torch.uint8, signed=False)
B1 = DType("b1", 1, "bool", torch.bool)
U64 = DType("u64", 8, "int", torch.uint64, signed=False, in_kernels=False)
U32 = DType("u32", 4, "int", torch.uint32, signed=False, in_kernels=False)
U16 = DType("u16", 2, "int", torch.uint16, signed=False, in_kernels=False)
C128 = DType("c128", 16, "complex", torch.complex128, in_kernels=False)
C64 = DType("c64", 8, "complex", torch.complex64, in_kernels=False)

DTYPES: dict[str, DType] = {
    d.name: d for d in (F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U8, B1, U64, U32, U16, C128, C64)
}
_FROM_TORCH: dict[torch.dtype, DType] = {d.torch: d for d in DTYPES.values()}


def from_torch(dtype: torch.dtype) -> DType | None:
    """The row of a torch dtype; None where the IR has none (quantised types)."""
    return _FROM_TORCH.get(dtype)


def compute_type(dtype: DType) -> DType:
    """The type that arithmetic on ``dtype`` is done in inside a kernel: narrow floats compute in fp32."""
    return F32 if dtype.is_float and dtype.bytes < 4 else dtype
