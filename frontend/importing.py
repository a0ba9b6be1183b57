"""What a row of the import table works with: the builder, the operands, and what torch says about the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import fx

from rooftile.frontend.rows import DeclinedError, RefusedError
from rooftile.frontend.sizes import to_sizes
from rooftile.ir.builder import GraphBuilder, axis_exprs
from rooftile.ir.core import Op, TensorType, Value
from rooftile.ir.dtypes import B1, F32, F64, I64, DType, compute_type, from_torch
from rooftile.ir.expr import Expr, Size
from rooftile.ir.polynomial import product

# A number as an operand: weak in type promotion. An ``Expr`` is an integer known at run time.
Scalar: TypeAlias = bool | int | float | Expr


def tensor_type(value: torch.Tensor) -> TensorType:
    """The IR's type of a fake tensor, dense (strides left out).

    Raises:
        DeclinedError: the IR has no such dtype (a quantised one), or the tensor is not an ordinary strided one.
    """
    dtype = from_torch(value.dtype)
    if dtype is None or value.layout is not torch.strided:
        raise DeclinedError(f"the IR has no {value.dtype} {value.layout} tensors")
    return TensorType(dtype, to_sizes(value.shape))


class Import:
    """The import of one graph. Rows read ``dtype`` and ``shape``: torch's own answer for the node being imported."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.b = builder
        self.node: fx.Node | None = None
        self.expected: Any = None
        self._seen = 0
        self._producers: dict[Value, Op] = {}
        self.parts: dict[Value, tuple[Value, Value]] = {}  # of complex tensors that were taken apart

    @property
    def dtype(self) -> DType:
        """The dtype of the (first) result."""
        return tensor_type(self._first()).dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        """The shape of the (first) result."""
        return to_sizes(self._first().shape)

    def _first(self) -> torch.Tensor:
        first = self.expected[0] if isinstance(self.expected, (list, tuple)) else self.expected
        assert isinstance(first, torch.Tensor)
        return first

    def producer(self, value: Value) -> Op | None:
        """The op that made ``value``; None for an input."""
        for op in self.b.ops[self._seen :]:
            self._producers |= dict.fromkeys(op.outputs, op)
        self._seen = len(self.b.ops)
        return self._producers.get(value)

    def forget_from(self, count: int) -> None:
        """Take back all ops but the first ``count``."""
        for op in self.b.ops[count:]:
            for output in op.outputs:
                self._producers.pop(output, None)
        del self.b.ops[count:]
        self._seen = min(self._seen, count)

    def scalar(self, value: Scalar, dtype: DType) -> Value:
        """A number as a value of shape ``()``."""
        if isinstance(value, Expr):
            return self.b.cast(self.b.size(value), dtype)
        kinds = {"float": float, "int": int, "bool": bool}
        return self.b.constant(kinds[dtype.kind](value), dtype)

    def operand(self, x: Value | Scalar, dtype: DType) -> Value:
        """``x`` in ``dtype``."""
        return self.b.cast(x, dtype) if isinstance(x, Value) else self.scalar(x, dtype)

    def full(self, value: Value | Scalar, dtype: DType, shape: Sequence[Size]) -> Value:
        """A tensor of one value."""
        return self.b.broadcast(self.operand(value, dtype), shape)

    def arange(self, size: Size, dtype: DType = I64) -> Value:
        """``0 .. size - 1``."""
        return self.b.op("iota", (), {"size": size, "dtype": dtype})

    @staticmethod
    def axes(axes: Sequence[tuple[str, Size]]) -> list[Expr]:
        """The axes of a contraction or gather as index expressions, in order."""
        return list(axis_exprs(axes).values())

    @staticmethod
    def axes_of(shape: Sequence[Size]) -> tuple[list[tuple[str, Size]], list[Expr]]:
        """An axis for each dimension of ``shape``, and all of them as index expressions."""
        axes = [(f"a{n}", size) for n, size in enumerate(shape)]
        return axes, Import.axes(axes)

    def index_along(self, shape: Sequence[Size], dim: int) -> Value:
        """Each element's index along ``dim``, in a shape that broadcasts to ``shape``."""
        rank = len(shape)
        small = tuple(shape[d] if d == dim else 1 for d in range(rank))
        return self.b.reshape(self.arange(shape[dim]), small)

    def pointwise(self, fn: str, *operands: Value | Scalar) -> Value:
        """A scalar function of operands in their promoted dtype (float where ``fn`` needs one), as torch promotes."""
        return self.in_dtype(fn, promoted(*operands), *operands)

    def in_dtype(self, fn: str, dtype: DType, *operands: Value | Scalar) -> Value:
        """A scalar function computed in ``dtype``. ATen keeps Python numbers in fp32 and rounds once."""
        inexact = any(not isinstance(x, Value) and not _is_exact(x, dtype) for x in operands)
        wide = compute_type(dtype) if inexact else dtype
        result = self.b.pointwise(fn, *(self.operand(x, wide) for x in operands))
        return self.b.cast(result, dtype) if result.dtype is wide else result

    def wide(self, x: Value) -> Value:
        """``x`` in the dtype that ATen computes in: fp32 for narrow floats."""
        return self.b.cast(x, compute_type(x.dtype))

    def where(self, condition: Value, x: Value | Scalar, y: Value | Scalar, dtype: DType) -> Value:
        """``x`` where the condition holds, else ``y``."""
        return self.b.pointwise("where", self.b.cast(condition, B1), self.operand(x, dtype), self.operand(y, dtype))

    def size_factor(self, x: Value, dims: Sequence[int], dtype: DType) -> Value:
        """The number of elements along ``dims``, in ``dtype``."""
        return self.scalar(product([x.shape[d] for d in dims]), dtype)

    def mean(self, x: Value, dims: Sequence[int], *, keepdim: bool = True) -> Value:
        """The mean along ``dims``, in the dtype of ``x``."""
        total = self.b.reduce("sum", x, dims, keepdim=keepdim)
        return self.b.pointwise("div", total, self.size_factor(x, dims, x.dtype))


def require_one_dtype(*operands: Value | None) -> None:
    """Raises ``RefusedError`` where operands are of several dtypes, for ops that don't promote them."""
    if len({x.dtype for x in operands if x is not None}) > 1:
        raise RefusedError("operands of several dtypes")


def _is_exact(value: Scalar, dtype: DType) -> bool:
    if isinstance(value, Expr):
        return not dtype.is_float
    if not dtype.is_float or value != value:
        return True
    return bool(torch.tensor(value, dtype=torch.float64).to(dtype.torch).to(torch.float64) == value)


def promoted(*operands: Value | Scalar) -> DType:
    """torch's result type of tensors (by category where they have no dimensions) and numbers."""
    stand_ins = [_stand_in(x) for x in operands]
    result = stand_ins[0]
    for other in stand_ins[1:]:
        dtype = torch.result_type(result, other)
        tensors = [s for s in (result, other) if isinstance(s, torch.Tensor)]
        rank = max((t.dim() for t in tensors), default=0)
        result = torch.empty((1,) * rank, dtype=dtype, device="meta")
    dtype = result.dtype if isinstance(result, torch.Tensor) else torch.result_type(result, result)
    found = from_torch(dtype)
    if found is None:
        raise DeclinedError(f"the IR has no {dtype}")
    return found


def _stand_in(x: Value | Scalar) -> torch.Tensor | bool | int | float:
    if isinstance(x, Value):
        return torch.empty((1,) * x.type.rank, dtype=x.dtype.torch, device="meta")
    return 1 if isinstance(x, Expr) else x


def as_float(dtype: DType) -> DType:
    """``dtype``, or torch's default float type where it is an integer or boolean."""
    if dtype.is_float:
        return dtype
    return F64 if torch.get_default_dtype() is torch.float64 else F32
