"""The elementwise functions of ``triton.language``: one row each, with the element types that the compiler takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from rooftile.runtime.interpreter.dtypes import (
    BF16,
    BOOLEAN,
    FLOATING,
    FP16,
    FP32,
    FP64,
    INT1,
    Array,
    ElementType,
    convert,
    rounded,
)
from rooftile.runtime.interpreter.tensor import Operand, Tensor, arithmetic, to_float, to_tensor, together

WIDE = (FP32, FP64)
STANDARD = (FP16, BF16, FP32, FP64)


class PropagateNan:
    """Whether ``maximum`` and ``minimum`` return a NaN operand (``ALL``) or the other one (``NONE``)."""

    ALL = "all"
    NONE = "none"


def _by_torch(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Array], Array]:
    """A torch function on numpy arrays, for those that numpy lacks."""

    def call(values: Array) -> Array:
        contiguous = np.array(values, copy=True, ndmin=1)
        return function(torch.from_numpy(contiguous)).numpy().reshape(np.shape(values))

    return call


def _rsqrt(values: Array) -> Array:
    inverse: Array = np.reciprocal(np.sqrt(values))
    return inverse


def _flushed_reciprocal(values: Array) -> Array:
    inverse = np.reciprocal(values)
    return np.where(np.abs(inverse) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), inverse), inverse)


# PTX that kernels contain, on arrays.
INSTRUCTIONS: dict[str, Callable[..., Array]] = {"rcp.approx.ftz.f32": _flushed_reciprocal}

UNARY: dict[str, tuple[Callable[[Array], Any], tuple[ElementType, ...]]] = {
    "exp": (np.exp, WIDE),
    "exp2": (np.exp2, WIDE),
    "log": (np.log, WIDE),
    "log2": (np.log2, WIDE),
    "sin": (np.sin, WIDE),
    "cos": (np.cos, WIDE),
    "sqrt": (np.sqrt, WIDE),
    "sqrt_rn": (np.sqrt, WIDE),
    "rsqrt": (_rsqrt, WIDE),
    "erf": (_by_torch(torch.erf), WIDE),
    "floor": (np.floor, STANDARD),
    "ceil": (np.ceil, STANDARD),
}

LIBDEVICE_UNARY: dict[str, Callable[[Array], Any]] = {
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "sqrt": np.sqrt,
    "rsqrt": _rsqrt,
    "cbrt": np.cbrt,
    "erf": _by_torch(torch.erf),
    "erfc": _by_torch(torch.special.erfc),
    "erfinv": _by_torch(torch.erfinv),
    "lgamma": _by_torch(torch.lgamma),
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "nearbyint": np.rint,
    "round": lambda values: np.copysign(np.floor(np.abs(values) + 0.5), values),
}
LIBDEVICE_BINARY: dict[str, Callable[..., Any]] = {
    "pow": np.power,
    "atan2": np.arctan2,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "copysign": np.copysign,
    "nextafter": np.nextafter,
}
LIBDEVICE_TEST: dict[str, Callable[[Array], Any]] = {"isnan": np.isnan, "isinf": np.isinf, "finitef": np.isfinite}


def unary(
    name: str, function: Callable[[Array], Any], accepted: tuple[ElementType, ...]
) -> Callable[[Operand], Tensor]:
    """The language's function ``name``; like the compiler it refuses types that the hardware has no instruction for."""

    def call(x: Operand) -> Tensor:
        tensor: Tensor = to_tensor(x)
        if tensor.dtype not in accepted:
            raise TypeError(f"`{name}` takes {', '.join(t.name for t in accepted)}, not {tensor.dtype}: cast it first")
        return Tensor(rounded(function(tensor.data), tensor.element), tensor.dtype)

    return call


def _binary(function: Callable[..., Any]) -> Callable[[Operand, Operand], Tensor]:
    def call(x: Operand, y: Operand) -> Tensor:
        return arithmetic(function, to_float(x), to_float(y))

    return call


def _test(function: Callable[[Array], Any]) -> Callable[[Operand], Tensor]:
    def call(x: Operand) -> Tensor:
        return Tensor(function(to_tensor(x).data), INT1)

    return call


def absolute(x: Operand) -> Tensor:
    """``tl.abs``."""
    tensor: Tensor = to_tensor(x)
    return Tensor(np.abs(tensor.data), tensor.element)


def _as_fp32_if_bf16(x: Operand) -> Operand:
    return x.to(FP32) if isinstance(x, Tensor) and x.dtype is BF16 else x


def maximum(x: Operand, y: Operand, propagate_nan: str = PropagateNan.NONE) -> Tensor:
    """``tl.maximum``: of a NaN and a number, the number, unless told to propagate."""
    op = np.maximum if propagate_nan == PropagateNan.ALL else np.fmax
    return arithmetic(op, _as_fp32_if_bf16(x), _as_fp32_if_bf16(y))


def minimum(x: Operand, y: Operand, propagate_nan: str = PropagateNan.NONE) -> Tensor:
    """``tl.minimum``: of a NaN and a number, the number, unless told to propagate."""
    op = np.minimum if propagate_nan == PropagateNan.ALL else np.fmin
    return arithmetic(op, _as_fp32_if_bf16(x), _as_fp32_if_bf16(y))


def clamp(x: Operand, min: Operand, max: Operand, propagate_nan: str = PropagateNan.NONE) -> Tensor:
    """``tl.clamp``: a NaN becomes ``min`` unless told to propagate."""
    return minimum(maximum(x, min, propagate_nan), max, propagate_nan)


def fma(x: Operand, y: Operand, z: Operand) -> Tensor:
    """``x * y + z`` with one rounding."""
    product, addend, dtype = together(arithmetic(np.multiply, x, y), z)
    if dtype is FP64 or dtype.kind != FLOATING:
        return Tensor(product + addend, dtype)
    a, b, _ = together(x, y)
    exact = np.asarray(a, dtype=np.float64) * np.asarray(b, dtype=np.float64) + addend
    return Tensor(convert(exact, FP64, dtype), dtype)


def where(condition: Operand, x: Operand, y: Operand) -> Tensor:
    """``tl.where``: both sides in their common type."""
    chosen: Tensor = to_tensor(condition)
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.dtype is y.dtype:
        return Tensor(np.where(chosen.data, x.data, y.data), x.dtype)
    a, b, dtype = together(x, y)
    return Tensor(np.where(chosen.data, a, b), dtype)


def divide(x: Operand, y: Operand, ieee_rounding: bool = False) -> Tensor:
    """``tl.fdiv`` and ``tl.div_rn``: floats only."""
    return arithmetic(np.divide, to_float(x), to_float(y))


def umulhi(x: Operand, y: Operand) -> Tensor:
    """The upper half of the product of two integers of 32 or 64 bits, taken as unsigned."""
    a, b, dtype = together(x, y)
    if dtype.kind in (FLOATING, BOOLEAN) or dtype.bits < 32:
        raise TypeError(f"`umulhi` takes integers of 32 or 64 bits, not {dtype}")
    wide = np.uint64 if dtype.bits == 32 else object
    unsigned = np.dtype(f"uint{dtype.bits}")
    left, right = (np.asarray(v).astype(unsigned).astype(wide) for v in (a, b))
    return Tensor(np.asarray((left * right) >> dtype.bits).astype(unsigned).astype(dtype.held), dtype)


def inline_asm_elementwise(
    asm: str, constraints: str, args: Sequence[Operand], dtype: ElementType, is_pure: bool, pack: int
) -> Tensor:
    """``tl.inline_asm_elementwise`` of one instruction, if that is among ``INSTRUCTIONS``."""
    instruction = asm.split()[0]
    if instruction not in INSTRUCTIONS:
        raise NotImplementedError(f"`{instruction}` has no meaning on the CPU")
    return Tensor(INSTRUCTIONS[instruction](*(to_tensor(arg).data for arg in args)), dtype)


def functions() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` that work element by element, by name."""
    table: dict[str, Callable[..., Any]] = {name: unary(name, *row) for name, row in UNARY.items()}
    return table | {
        "abs": absolute,
        "maximum": maximum,
        "minimum": minimum,
        "clamp": clamp,
        "fma": fma,
        "where": where,
        "fdiv": divide,
        "div_rn": divide,
        "umulhi": umulhi,
    }


def libdevice() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language.extra.libdevice``, by name."""
    table: dict[str, Callable[..., Any]] = {name: unary(name, f, WIDE) for name, f in LIBDEVICE_UNARY.items()}
    table |= {name: _binary(f) for name, f in LIBDEVICE_BINARY.items()}
    table |= {name: _test(f) for name, f in LIBDEVICE_TEST.items()}
    return table | {"abs": absolute, "fast_expf": table["exp"], "div_rn": divide, "fma": fma}
