"""The namespace that a kernel sees as ``triton.language``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np

from rooftile.runtime.interpreter import access, dtypes, elementwise, random, reductions, tiles
from rooftile.runtime.interpreter.descriptor import Descriptor
from rooftile.runtime.interpreter.dtypes import INT32, ElementType
from rooftile.runtime.interpreter.tensor import Operand, Tensor, index_type, to_tensor

Program = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
program: ContextVar[Program] = ContextVar("program")  # the running program's ids, and the grid


def first_axes(values: Sequence[int]) -> tuple[Tensor, ...]:
    """Grid coordinates as the int32 scalars that kernels see."""
    return tuple(Tensor(np.int32(value), INT32) for value in values)


def program_id(axis: int) -> Tensor:
    """``tl.program_id``."""
    return program.get()[0][axis]


def num_programs(axis: int) -> Tensor:
    """``tl.num_programs``."""
    return program.get()[1][axis]


def loop(start: Operand, end: Operand | None = None, step: Operand = 1, **options: Any) -> Iterator[Tensor]:
    """``tl.range``: its options (stages, flattening, warp specialisation) change speed, not results."""
    low, high = (0, start) if end is None else (start, end)
    dtype = index_type(low, high, step)
    bounds = (int(to_tensor(value).data) for value in (low, high, step))
    return (Tensor(dtype.held.type(i), dtype) for i in range(*bounds))


def unrolled(start: int, end: int | None = None, step: int = 1) -> range:
    """``tl.static_range``."""
    return range(start) if end is None else range(start, end, step)


def smallest(*values: Any) -> Any:
    """Python's ``min`` as kernels see it: numbers that are known stay numbers."""
    return functools.reduce(elementwise.minimum, values) if any(isinstance(v, Tensor) for v in values) else min(*values)


def largest(*values: Any) -> Any:
    """Python's ``max`` as kernels see it: numbers that are known stay numbers."""
    return functools.reduce(elementwise.maximum, values) if any(isinstance(v, Tensor) for v in values) else max(*values)


# What Triton writes in its own language


def cdiv(x: Operand, div: Operand) -> Any:
    """``tl.cdiv``."""
    return (x + (div - 1)) // div


def sigmoid(x: Tensor) -> Tensor:
    """``tl.sigmoid``."""
    result: Tensor = 1 / (1 + EXP(-x))
    return result


def softmax(x: Tensor, dim: int | None = None, keep_dims: bool = False, ieee_rounding: bool = False) -> Tensor:
    """``tl.softmax``: along the first axis unless told."""
    axis = 0 if dim is None else dim
    powers = EXP(x - reductions.maximum_of(x, axis, keep_dims=True))
    return elementwise.divide(powers, reductions.total(powers, axis, keep_dims=True))


def swizzle2d(i: Any, j: Any, size_i: Any, size_j: Any, size_g: Any) -> tuple[Any, Any]:
    """``tl.swizzle2d``: row-major tile numbers to column-major within groups of ``size_g`` rows."""
    flat = i * size_j + j
    group = flat // (size_g * size_j)
    first = group * size_g
    rows = elementwise.minimum(size_i - first, size_g)
    inner = flat % (size_g * size_j)
    return first + inner % rows, inner // rows


EXP = elementwise.functions()["exp"]


# Hints and checks


def _unchanged(input: Any, *hints: Any) -> Any:
    return input


class DeviceAssertion(AssertionError):
    """A ``tl.device_assert`` of the kernel did not hold."""


def device_assert(cond: Operand, msg: str = "", mask: Operand | None = None) -> None:
    """``tl.device_assert``, always on."""
    holds = np.asarray(to_tensor(cond).data)
    if not np.all(holds if mask is None else holds | ~np.asarray(to_tensor(mask).data)):
        raise DeviceAssertion(msg or "device_assert failed")


def static_assert(cond: Any, msg: str = "") -> None:
    """``tl.static_assert``."""
    if not cond:
        raise AssertionError(msg or "static_assert failed")


def _assume(cond: Operand) -> None:
    device_assert(cond, "an `assume` does not hold")


def _unsupported(name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise NotImplementedError(f"`tl.{name}` has no meaning on the CPU")

    return call


TYPES: dict[str, Any] = {
    "int1": dtypes.INT1,
    "int8": dtypes.INT8,
    "int16": dtypes.INT16,
    "int32": dtypes.INT32,
    "int64": dtypes.INT64,
    "uint8": dtypes.UINT8,
    "uint16": dtypes.UINT16,
    "uint32": dtypes.UINT32,
    "uint64": dtypes.UINT64,
    "float8e4nv": dtypes.FP8E4NV,
    "float8e5": dtypes.FP8E5,
    "float16": dtypes.FP16,
    "bfloat16": dtypes.BF16,
    "float32": dtypes.FP32,
    "float64": dtypes.FP64,
}

# Of ``triton.language.extra.cuda``: here each kernel has ended before the next begins.
ORDER: dict[str, Any] = {"gdc_wait": lambda: None}

OWN: dict[str, Any] = {
    "program_id": program_id,
    "num_programs": num_programs,
    "range": loop,
    "static_range": unrolled,
    "cdiv": cdiv,
    "swizzle2d": swizzle2d,
    "multiple_of": _unchanged,
    "max_contiguous": _unchanged,
    "max_constancy": _unchanged,
    "assume": _assume,
    "device_assert": device_assert,
    "static_assert": static_assert,
    "device_print": print,
    "static_print": print,
    "debug_barrier": lambda: None,
    "inline_asm_elementwise": elementwise.inline_asm_elementwise,
    "dot_scaled": _unsupported("dot_scaled"),
    "constexpr": lambda value: value,
    "tensor": Tensor,
    "tensor_descriptor": Descriptor,
    "dtype": ElementType,
    "PropagateNan": elementwise.PropagateNan,
}


def namespace() -> SimpleNamespace:
    """The module-like object bound to ``triton.language``; also gives tensors their methods."""
    math = elementwise.functions()
    methods = math | reductions.functions() | tiles.functions() | {"sigmoid": sigmoid, "softmax": softmax}
    for name, method in methods.items():
        setattr(Tensor, name, method)
    libdevice = SimpleNamespace(**elementwise.libdevice())
    return SimpleNamespace(
        **(OWN | TYPES | methods | tiles.constructors() | access.functions() | random.functions()),
        extra=SimpleNamespace(libdevice=libdevice, cuda=SimpleNamespace(libdevice=libdevice, **ORDER)),
        math=SimpleNamespace(**math),
    )
