"""The value of a Triton expression: a tile (or a scalar) with an element type, and the operators on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rooftile.runtime.interpreter.dtypes import (
    BOOLEAN,
    FLOATING,
    FP32,
    INT1,
    INT32,
    INT64,
    ElementType,
    common,
    common_with_number,
    convert,
    decode,
    encode,
    of_number,
    rounded,
)
from rooftile.runtime.interpreter.memory import Memory


@dataclass(frozen=True, eq=False)
class PointerType:
    """Pointers into one buffer; a tensor of this type holds element indices into it."""

    memory: Memory

    @property
    def element_ty(self) -> ElementType:
        return self.memory.dtype

    @property
    def scalar(self) -> PointerType:
        return self

    def is_ptr(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"pointer<{self.memory.dtype}>"


Number: TypeAlias = bool | int | float


class Tensor:
    """A tile: ``data`` (``dtype.held``; element indices for pointers) and ``dtype``. Scalars have shape ``()``."""

    __slots__ = ("data", "dtype")

    # Numpy must leave `array_scalar + tensor` to this class.
    __array_ufunc__ = None

    def __init__(self, data: Any, dtype: ElementType | PointerType) -> None:
        self.data = data
        self.dtype = dtype

    @property
    def type(self) -> ElementType | PointerType:
        return self.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.data)

    @property
    def numel(self) -> int:
        return int(np.size(self.data))

    @property
    def element(self) -> ElementType:
        """The element type of a tensor that must not hold pointers."""
        if isinstance(self.dtype, PointerType):
            raise TypeError(f"a value is needed here, not a {self.dtype}")
        return self.dtype

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)} {self.data}"

    def __bool__(self) -> bool:
        if np.size(self.data) != 1:
            raise TypeError(
                f"a tile of shape {list(self.shape)} has no truth value; only scalars may steer control flow"
            )
        return bool(np.all(self.data))

    def __getitem__(self, index: Any) -> Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        if any(part is not None and part != slice(None) for part in parts):
            raise TypeError("tiles are indexed by `:` and `None` only")
        return Tensor(np.asarray(self.data)[index], self.dtype)

    def to(self, dtype: Any, fp_downcast_rounding: str | None = None, bitcast: bool = False) -> Tensor:
        if fp_downcast_rounding not in (None, "rtne"):
            raise NotImplementedError(f"rounding {fp_downcast_rounding!r} is not supported on the CPU")
        if self.dtype is dtype:
            return self
        if bitcast:
            return self._bitcast(dtype)
        if isinstance(self.dtype, PointerType) and dtype is INT64:
            memory = self.dtype.memory
            return Tensor(memory.address + np.int64(memory.flat.itemsize) * self.data, INT64)
        return Tensor(convert(self.data, self.element, dtype), dtype)

    def _bitcast(self, dtype: ElementType) -> Tensor:
        if self.element.bits != dtype.bits:
            raise TypeError(f"cannot reinterpret {self.dtype} as {dtype}: the sizes differ")
        raw = np.ascontiguousarray(encode(self.data, self.element)).view(dtype.raw)
        return Tensor(decode(raw, dtype).reshape(self.shape), dtype)

    @property
    def T(self) -> Tensor:
        return Tensor(np.swapaxes(self.data, -1, -2), self.dtype)

    def __add__(self, other: Operand) -> Tensor:
        return add(self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return add(other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return subtract(self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return subtract(other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return arithmetic(np.multiply, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return true_divide(self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return true_divide(other, self)

    def __floordiv__(self, other: Operand) -> Tensor:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return floor_divide(other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return arithmetic(np.fmod, self, other, division=True)

    def __rmod__(self, other: Operand) -> Tensor:
        return arithmetic(np.fmod, other, self, division=True)

    def __neg__(self) -> Tensor:
        return Tensor(np.negative(self.data), self.element)

    def __invert__(self) -> Tensor:
        return Tensor(np.invert(self.data), self.element)

    def __and__(self, other: Operand) -> Tensor:
        return bitwise(np.bitwise_and, self, other)

    def __or__(self, other: Operand) -> Tensor:
        return bitwise(np.bitwise_or, self, other)

    def __xor__(self, other: Operand) -> Tensor:
        return bitwise(np.bitwise_xor, self, other)

    def __lshift__(self, other: Operand) -> Tensor:
        return bitwise(np.left_shift, self, other)

    def __rshift__(self, other: Operand) -> Tensor:
        return bitwise(np.right_shift, self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __rlshift__(self, other: Operand) -> Tensor:
        return bitwise(np.left_shift, other, self)

    def __rrshift__(self, other: Operand) -> Tensor:
        return bitwise(np.right_shift, other, self)

    def __lt__(self, other: Operand) -> Tensor:
        return compare(np.less, self, other)

    def __le__(self, other: Operand) -> Tensor:
        return compare(np.less_equal, self, other)

    def __gt__(self, other: Operand) -> Tensor:
        return compare(np.greater, self, other)

    def __ge__(self, other: Operand) -> Tensor:
        return compare(np.greater_equal, self, other)

    def __eq__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return compare(np.equal, self, other)

    def __ne__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return compare(np.not_equal, self, other)

    __hash__ = None  # type: ignore[assignment]


Operand: TypeAlias = Tensor | Number
Ufunc: TypeAlias = Callable[..., Any]


def to_tensor(value: Any) -> Any:
    """A number as a scalar tensor of the type that Triton gives it, in tuples too; anything else as it is."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | int | float | np.generic):
        dtype = of_number(value)
        return Tensor(dtype.held.type(value), dtype)
    if type(value) is tuple:
        return tuple(map(to_tensor, value))
    return value


def together(a: Operand, b: Operand, *, division: bool = False) -> tuple[Any, Any, ElementType]:
    """Both operands' data in their common type, and that type."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.dtype is b.dtype and not division:
                return a.data, b.data, a.element
            dtype = common(a.element, b.element, division=division)
            return convert(a.data, a.element, dtype), convert(b.data, b.element, dtype), dtype
        dtype = common_with_number(a.element, b, division=division)
        return convert(a.data, a.element, dtype), _constant(b, dtype), dtype
    if isinstance(b, Tensor):
        dtype = common_with_number(b.element, a, division=division)
        return _constant(a, dtype), convert(b.data, b.element, dtype), dtype
    return together(to_tensor(a), to_tensor(b), division=division)


def _constant(number: Number, dtype: ElementType) -> Any:
    value = dtype.held.type(number)
    return rounded(value, dtype) if dtype.narrow else value


def arithmetic(op: Ufunc, a: Operand, b: Operand, *, division: bool = False) -> Tensor:
    """An operation done in the operands' common type."""
    x, y, dtype = together(a, b, division=division)
    result = op(x, y)
    return Tensor(rounded(result, dtype) if dtype.narrow else result, dtype)


def add(a: Operand, b: Operand) -> Tensor:
    """``a + b``; one of them may hold pointers."""
    if isinstance(b, Tensor) and isinstance(b.dtype, PointerType):
        a, b = b, a
    if isinstance(a, Tensor) and isinstance(a.dtype, PointerType):
        return Tensor(np.add(a.data, _offset(b), dtype=np.int64), a.dtype)
    return arithmetic(np.add, a, b)


def subtract(a: Operand, b: Operand) -> Tensor:
    """``a - b``; ``a`` may hold pointers."""
    if isinstance(a, Tensor) and isinstance(a.dtype, PointerType):
        return Tensor(np.subtract(a.data, _offset(b), dtype=np.int64), a.dtype)
    return arithmetic(np.subtract, a, b)


def _offset(offset: Operand) -> Any:
    tensor: Tensor = to_tensor(offset)
    if tensor.element.kind == FLOATING:
        raise TypeError(f"a pointer moves by integers, not by {tensor.dtype}")
    return np.asarray(tensor.data, dtype=np.int64)


def true_divide(a: Operand, b: Operand) -> Tensor:
    """``a / b``: integers divide as fp32, narrow floats in fp32."""
    a, b = to_float(a), to_float(b)
    return arithmetic(np.divide, a, b, division=True)


def to_float(value: Operand) -> Operand:
    """Integer tensors as fp32; numbers and float tensors as they are."""
    if isinstance(value, Tensor):
        return value if value.element.kind == FLOATING else value.to(FP32)
    return float(value)


def floor_divide(a: Operand, b: Operand) -> Tensor:
    """``a // b`` on integers, which in Triton rounds towards zero."""
    x, y, dtype = together(a, b, division=True)
    if dtype.kind == FLOATING:
        raise TypeError("`//` takes integers")
    if np.ndim(x) == 0 and np.ndim(y) == 0 and x >= 0 and y > 0:
        return Tensor(x // y, dtype)
    return Tensor(np.floor_divide(x - np.fmod(x, y), y), dtype)


def bitwise(op: Ufunc, a: Operand, b: Operand) -> Tensor:
    """A bitwise operation on integers or booleans."""
    x, y, dtype = together(a, b)
    if dtype.kind == FLOATING:
        raise TypeError(f"a bitwise operation takes integers, not {dtype}")
    if dtype.kind == BOOLEAN and op in (np.left_shift, np.right_shift):
        raise TypeError("a shift takes integers, not int1")
    return Tensor(op(x, y), dtype)


def compare(op: Ufunc, a: Operand, b: Operand) -> Tensor:
    """A comparison: int1."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and isinstance(a.dtype, PointerType):
        return Tensor(op(a.data, b.data), INT1)
    x, y, _ = together(a, b)
    return Tensor(op(x, y), INT1)


def full(shape: Any, value: Operand, dtype: ElementType) -> Tensor:
    """A tile filled with one value; its sizes must be powers of two."""
    sizes = tile_shape(shape)
    scalar: Tensor = to_tensor(value)
    return Tensor(np.full(sizes, convert(scalar.data, scalar.element, dtype), dtype=dtype.held), dtype)


def tile_shape(shape: Any) -> tuple[int, ...]:
    """A shape given in a kernel, checked as Triton's compiler checks it: known sizes, each a power of two."""
    sizes = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    for size in sizes:
        if isinstance(size, Tensor) or not isinstance(size, int):
            raise TypeError(f"a tile's sizes must be known at compile time, got {size!r}")
        if size <= 0 or size & (size - 1):
            raise ValueError(f"a tile's sizes must be powers of two, got {list(sizes)}")
    return sizes


def index_type(*values: Operand) -> ElementType:
    """The type of a loop's induction variable: int64 if any bound is, else int32."""
    wide = any(to_tensor(value).element.bits > 32 for value in values)
    return INT64 if wide else INT32
