"""The graph-level op table: small and closed. Every op is a whole-tensor function with an explicit shape rule.

Axis-carrying ops (``contract``, ``gather``, ``scatter``) hold ``axes``: ``((name, size), ...)``, and ``maps``: for each
operand one index expression per dimension, over those axes. In a map of a gather or scatter the symbol ``idxN`` stands
for the value of its index operand ``N`` at that one's own map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rooftile.ir.core import Op, TensorType
from rooftile.ir.division import floordiv
from rooftile.ir.dtypes import B1, I64
from rooftile.ir.expr import Size
from rooftile.ir.indexed_ops import INDEXED_OPS, require_maps
from rooftile.ir.optable import Evaluation, InferenceError, OpDef, require, scalar_row
from rooftile.ir.polynomial import add, mul, product
from rooftile.ir.ranges import at_least, equal, equal_shapes
from rooftile.ir.reference import contract_reference
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS
from rooftile.ir.schedule import OPTIONS
from rooftile.ir.substitution import evaluate

Types = Sequence[TensorType]
Attrs = Mapping[str, Any]
Tensors = Sequence[torch.Tensor]


def _sizes(shape: Sequence[Size], ev: Evaluation) -> list[int]:
    return [evaluate(s, ev.bindings) for s in shape]


def _infer_constant(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (TensorType(attrs["dtype"], ()),)


def _infer_size(_: Types, __: Attrs) -> tuple[TensorType, ...]:
    return (TensorType(I64, ()),)


def _infer_iota(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (TensorType(attrs["dtype"], (attrs["size"],)),)


def _infer_pointwise(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    row = scalar_row(types, attrs)
    first = types[0]
    for t in types:
        require(
            equal_shapes(t.shape, first.shape),
            f"{row.name} wants operands of one shape, got {[t.shape for t in types]}",
        )
    if row.chooses:
        require(first.dtype is B1, f"{row.name} wants a b1 condition, got {first.dtype}")
    if row.operands == "float":
        require(first.dtype.is_float, f"{row.name} wants float operands, got {first.dtype}")
    return (TensorType(row.result_dtype(tuple(t.dtype for t in types)), first.shape),)


def _infer_cast(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (TensorType(attrs["dtype"], types[0].shape),)


def _infer_reduce(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), dims = types, attrs["dims"]
    require(attrs["fn"] in COMBINES, f"unknown reduction {attrs['fn']!r}")
    require(tuple(sorted(set(dims))) == tuple(dims), f"reduce wants sorted distinct dims, got {dims}")
    require(all(0 <= d < x.rank for d in dims), f"reduce dims {dims} out of range for rank {x.rank}")
    kept = tuple(s for d, s in enumerate(x.shape) if d not in dims)
    position = COMBINES[attrs["fn"]].position
    require(not position or len(dims) == 1, f"{attrs['fn']} wants one dim, got {dims}")
    return (TensorType(I64 if position else x.dtype, kept),)


def _infer_scan(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    require(attrs["fn"] in SCANS, f"unknown scan {attrs['fn']!r}")
    require(0 <= attrs["dim"] < types[0].rank, f"scan dim {attrs['dim']} out of range for rank {types[0].rank}")
    return (TensorType(types[0].dtype, types[0].shape),)


def _infer_contract(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    sizes = dict(attrs["axes"])
    require_maps("contract", types, attrs)
    require(all(a in sizes for a in attrs["out"]), f"contract out {attrs['out']} names an unknown axis")
    return (TensorType(attrs["dtype"], tuple(sizes[a] for a in attrs["out"])),)


def _infer_permute(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), perm = types, attrs["perm"]
    require(sorted(perm) == list(range(x.rank)), f"permute {perm} is no permutation of rank {x.rank}")
    return (TensorType(x.dtype, tuple(x.shape[p] for p in perm)),)


def _infer_expand(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), shape, dims = types, attrs["shape"], attrs["dims"]
    require(len(dims) == x.rank, f"expand dims {dims} for an operand of rank {x.rank}")
    require(list(dims) == sorted(set(dims)), f"expand dims {dims} are not increasing")
    require(all(0 <= d < len(shape) for d in dims), f"expand dims {dims} out of range for rank {len(shape)}")
    for size, d in zip(x.shape, dims, strict=True):
        require(size == 1 or equal(size, shape[d]), f"expand cannot turn size {size} into {shape[d]}")
    return (TensorType(x.dtype, tuple(shape)),)


def _infer_reshape(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), shape = types, attrs["shape"]
    require(equal(x.numel, product(shape)), f"reshape from {x.shape} to {tuple(shape)} changes the number of elements")
    return (TensorType(x.dtype, tuple(shape)),)


def _infer_slice(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,) = types
    for name in ("starts", "sizes", "steps"):
        require(len(attrs[name]) == x.rank, f"slice {name} {attrs[name]} for an operand of rank {x.rank}")
    for size, start, count, step in zip(x.shape, attrs["starts"], attrs["sizes"], attrs["steps"], strict=True):
        last = add(start, mul(step, add(count, -1)))
        if isinstance(last, int) and isinstance(size, int) and isinstance(start, int) and count != 0:
            require(0 <= last < size and 0 <= start < size, f"slice {start}:{last} out of range of {size}")
    return (TensorType(x.dtype, tuple(attrs["sizes"])),)


def _infer_concat(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    dim, first = attrs["dim"], types[0]
    require(0 <= dim < first.rank, f"concat dim {dim} out of range for rank {first.rank}")
    total: Size = 0
    for t in types:
        require(t.dtype is first.dtype and t.rank == first.rank, "concat wants operands of one dtype and rank")
        same = all(equal(a, b) for d, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if d != dim)
        require(same, f"concat of {t.shape} and {first.shape} along {dim}")
        total = add(total, t.shape[dim])
    return (TensorType(first.dtype, (*first.shape[:dim], total, *first.shape[dim + 1 :])),)


def _infer_pad(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), low, high = types, attrs["low"], attrs["high"]
    require(len(low) == len(high) == x.rank, f"pad {low}, {high} for an operand of rank {x.rank}")
    require(all(at_least(p, 0) for p in (*low, *high)), f"pad {low}, {high} must not be negative")
    return (TensorType(x.dtype, tuple(add(add(s, a), b) for s, a, b in zip(x.shape, low, high, strict=True))),)


def _infer_extern(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return tuple(TensorType(dtype, tuple(shape)) for dtype, shape in attrs["types"])


def _infer_called(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    require(bool(types), "called wants what the call gives, and then its operands")
    return (types[0],)


def _eval_called(_: Op, x: Tensors, __: Evaluation) -> tuple[torch.Tensor, ...]:
    return (x[0],)


def _infer_region(_: Types, __: Attrs) -> tuple[TensorType, ...]:
    raise InferenceError("a region takes the types of its body's outputs; the builder's `region` does that")


def _eval_constant(op: Op, _: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    return (torch.tensor(op.attrs["value"], dtype=ev.dtype(op.output.dtype)),)


def _eval_size(op: Op, _: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    return (torch.tensor(evaluate(op.attrs["value"], ev.bindings), dtype=torch.int64),)


def _eval_iota(op: Op, _: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    return (torch.arange(evaluate(op.output.shape[0], ev.bindings), dtype=ev.dtype(op.output.dtype)),)


def _eval_pointwise(op: Op, x: Tensors, _: Evaluation) -> tuple[torch.Tensor, ...]:
    return (SCALARS[str(op.attrs["fn"])].reference(*x),)


def _eval_cast(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    return (x[0].to(ev.dtype(op.output.dtype)),)


def _eval_reduce(op: Op, x: Tensors, _: Evaluation) -> tuple[torch.Tensor, ...]:
    dims: Any = op.attrs["dims"]
    return (COMBINES[str(op.attrs["fn"])].reference(x[0], dims) if dims else x[0],)


def _eval_scan(op: Op, x: Tensors, _: Evaluation) -> tuple[torch.Tensor, ...]:
    return (SCANS[op.attrs["fn"]](x[0], op.attrs["dim"]),)


def _eval_permute(op: Op, x: Tensors, _: Evaluation) -> tuple[torch.Tensor, ...]:
    return (x[0].permute(op.attrs["perm"]),)


def _eval_expand(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    view = [1] * op.output.type.rank
    for size, d in zip(x[0].shape, op.attrs["dims"], strict=True):
        view[d] = size
    return (x[0].reshape(view).expand(_sizes(op.output.shape, ev)),)


def _eval_reshape(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    return (x[0].reshape(_sizes(op.output.shape, ev)),)


def _eval_slice(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    out = x[0]
    starts, sizes, steps = (_sizes(op.attrs[n], ev) for n in ("starts", "sizes", "steps"))
    for dim, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        index = start + step * torch.arange(size, device=out.device)
        out = out.index_select(dim, index)
    return (out,)


def _eval_concat(op: Op, x: Tensors, _: Evaluation) -> tuple[torch.Tensor, ...]:
    return (torch.cat(list(x), op.attrs["dim"]),)


def _eval_pad(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    out = torch.full(_sizes(op.output.shape, ev), op.attrs["value"], dtype=x[0].dtype, device=x[0].device)
    window = tuple(slice(lo, lo + n) for lo, n in zip(_sizes(op.attrs["low"], ev), x[0].shape, strict=True))
    out[window] = x[0]
    return (out,)


GRAPH_OPS: dict[str, OpDef] = {
    row.name: row
    for row in (
        OpDef("constant", "A scalar known at compile time.", ("value", "dtype"), _infer_constant, _eval_constant),
        OpDef("size", "A run-time size as an i64 scalar.", ("value",), _infer_size, _eval_size),
        OpDef("iota", "0, 1, ..., size - 1.", ("size", "dtype"), _infer_iota, _eval_iota),
        OpDef("pointwise", "A scalar function of operands of one shape.", ("fn",), _infer_pointwise, _eval_pointwise),
        OpDef("cast", "The same values in another dtype.", ("dtype",), _infer_cast, _eval_cast),
        OpDef("reduce", "Combine the elements along dims, which vanish.", ("fn", "dims"), _infer_reduce, _eval_reduce),
        OpDef("scan", "Running combination along dim, inclusive.", ("fn", "dim"), _infer_scan, _eval_scan),
        OpDef(
            "contract",
            "Multiply operands element by element over the axes' space and sum over the axes that out does not name. "
            "Exact: narrow floats, whose sum is to be as exact as one of fp32 arithmetic.",
            ("axes", "maps", "out", "acc", "dtype", "exact"),
            _infer_contract,
            contract_reference,
            optional=("exact",),
        ),
        OpDef("permute", "Output dim d is input dim perm[d].", ("perm",), _infer_permute, _eval_permute, view=True),
        OpDef(
            "expand",
            "Broadcast to shape: input dim d becomes output dim dims[d], equal or of size 1; others are new.",
            ("shape", "dims"),
            _infer_expand,
            _eval_expand,
            view=True,
        ),
        OpDef("reshape", "The same elements in row-major order.", ("shape",), _infer_reshape, _eval_reshape, view=True),
        OpDef(
            "slice",
            "Per dim: sizes elements from starts on, steps apart (a step may be negative).",
            ("starts", "sizes", "steps"),
            _infer_slice,
            _eval_slice,
            view=True,
        ),
        OpDef("concat", "Operands one after another along dim.", ("dim",), _infer_concat, _eval_concat, view=True),
        OpDef(
            "pad",
            "low and high elements of value around each dim.",
            ("low", "high", "value"),
            _infer_pad,
            _eval_pad,
            view=True,
        ),
        *INDEXED_OPS,
        OpDef(
            "extern",
            "An ATen call kept as it is.",
            ("target", "args", "kwargs", "types", "view", "packed"),
            _infer_extern,
            None,
            optional=("view", "packed"),
        ),
        OpDef(
            "called",
            "The first operand, which is what an ATen call gives for others: a fact, kept until fuse.",
            ("target", "args", "kwargs"),
            _infer_called,
            _eval_called,
        ),
        OpDef(
            "region",
            "Ops that become one kernel: the body, and once lowered the kernel, are its regions (see ir/schedule.py).",
            (
                *("name", "axes", "defs", "roles", "grid", "group", "num_warps", "num_stages"),
                *(*OPTIONS, "packed", "launch", "visits", "call"),
            ),
            _infer_region,
            None,
        ),
    )
}


def infer_graph_op(name: str, types: Types, attrs: Mapping[str, Any]) -> tuple[TensorType, ...]:
    """The result types of a graph-level op.

    Raises:
        InferenceError: the op doesn't exist, or doesn't accept these operands and attributes.
    """
    require(name in GRAPH_OPS, f"unknown op {name!r}")
    row = GRAPH_OPS[name]
    unknown, missing = set(attrs) - set(row.attrs), set(row.attrs) - set(row.optional) - set(attrs)
    require(not unknown, f"{name} has no attribute {sorted(unknown)}; it takes {list(row.attrs)}")
    require(not missing, f"{name} lacks {sorted(missing)}")
    results = row.infer(types, attrs)
    foreign = next((t.dtype for t in (*types, *results) if not t.dtype.in_kernels), None)
    require(foreign is None or name == "extern", f"{name} does not compute with {foreign}; only an extern does")
    return results


def flatten_index(index: Sequence[Size], shape: Sequence[Size]) -> Size:
    """The row-major position of ``index`` in ``shape``."""
    position: Size = 0
    for i, size in zip(index, shape, strict=True):
        position = add(mul(position, size), i)
    return position


def unflatten_index(position: Size, shape: Sequence[Size]) -> tuple[Size, ...]:
    """The index in ``shape`` of a row-major ``position``; simplified by the ranges of the axes in it."""
    index: list[Size] = []
    stride: Size = 1
    for d in range(len(shape) - 1, -1, -1):
        quotient = floordiv(position, stride)
        index.append(0 if shape[d] == 1 else quotient if d == 0 else quotient % shape[d])
        stride = mul(stride, shape[d])
    return tuple(reversed(index))
