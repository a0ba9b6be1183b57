"""Graph-level ops whose places are data: rows of the table in ``rooftile.ir.graph_ops``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rooftile.ir.core import Op, TensorType
from rooftile.ir.expr import axis
from rooftile.ir.optable import Evaluation, OpDef, require
from rooftile.ir.ranges import equal
from rooftile.ir.reference import gather_reference, scatter_reference
from rooftile.ir.substitution import evaluate

Types = Sequence[TensorType]
Attrs = Mapping[str, Any]
Tensors = Sequence[torch.Tensor]


def require_maps(name: str, types: Types, attrs: Attrs) -> None:
    """An op's ``maps`` are one for each operand, with an index expression for each of its dimensions."""
    require(len(attrs["maps"]) == len(types), f"{name} has {len(types)} operands and {len(attrs['maps'])} maps")
    for t, m in zip(types, attrs["maps"], strict=True):
        require(len(m) == t.rank, f"a {name} map of {len(m)} entries for an operand of rank {t.rank}")


def _require_integers(name: str, indices: Types) -> None:
    for t in indices:
        require(t.dtype.kind == "int", f"{name} wants integer indices, got {t.dtype}")


def _infer_segment(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (ends,) = types
    require(ends.rank == 1 and ends.dtype.kind == "int", f"segment wants a row of integers, got {ends}")
    return (TensorType(ends.dtype, (attrs["size"],)),)


def _infer_positions(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,), dim = types, attrs["dim"]
    require(x.dtype.kind == "int", f"positions are integers, got {x.dtype}")
    require(0 <= dim < x.rank, f"positions that differ along dim {dim}, of rank {x.rank}")
    return (TensorType(x.dtype, x.shape),)


def _eval_positions(_: Op, x: Tensors, __: Evaluation) -> tuple[torch.Tensor, ...]:
    return (x[0],)


def _infer_gather(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    require_maps("gather", types, attrs)
    _require_integers("gather", types[1:])
    return (TensorType(types[0].dtype, tuple(size for _, size in attrs["axes"])),)


def _infer_scatter(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, source, *indices = types
    require_maps("scatter", types, attrs)
    own = tuple(axis(name, size) for name, size in attrs["axes"])
    require(tuple(attrs["maps"][1]) == own, f"scatter reads its elements at {own}, not at {attrs['maps'][1]}")
    require(x.dtype is source.dtype, f"scatter of {source.dtype} into {x.dtype}")
    _require_integers("scatter", indices)
    return (TensorType(x.dtype, x.shape, strides=x.strides),)


def _infer_arrange(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, index = types
    require(x.rank > 0 and index.rank == 1 and equal(index.shape[0], x.shape[0]), f"arrange of {x} by {index}")
    _require_integers("arrange", [index])
    return (TensorType(x.dtype, (attrs["size"], *x.shape[1:])),)


def _eval_arrange(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    shape = [evaluate(s, ev.bindings) for s in op.output.shape]
    out = torch.zeros(shape, dtype=x[0].dtype, device=x[0].device)
    out[x[1].long()] = x[0]
    return (out,)


def _eval_segment(op: Op, x: Tensors, ev: Evaluation) -> tuple[torch.Tensor, ...]:
    places = torch.arange(evaluate(op.attrs["size"], ev.bindings), dtype=x[0].dtype, device=x[0].device)
    return (torch.searchsorted(x[0].contiguous(), places, right=True).to(x[0].dtype),)


INDEXED_OPS: tuple[OpDef, ...] = (
    OpDef(
        "arrange",
        "Row t of operand 0 becomes row index[t], index being operand 1, of size; one that no index names is "
        "undefined.",
        ("size",),
        _infer_arrange,
        _eval_arrange,
    ),
    OpDef(
        "segment",
        "For each of size positions the segment that it lies in: how many of the ends, which never decrease, "
        "are at or before it.",
        ("size",),
        _infer_segment,
        _eval_segment,
    ),
    OpDef(
        "positions",
        "The operand, of which is known that it holds positions below size, no two of them the same along dim: a fact, "
        "kept until fuse.",
        ("size", "dim"),
        _infer_positions,
        _eval_positions,
    ),
    OpDef(
        "gather",
        "Read operand 0 at indices computed from axes and from the values of the integer operands 1, 2, ...",
        ("axes", "maps"),
        _infer_gather,
        gather_reference,
    ),
    OpDef(
        "scatter",
        "Operand 0 with the elements of operand 1 at places computed from axes and from the values of the integer "
        "operands 2, 3, ...; which of two that go to one place stays is open. A kernel writes over operand 0.",
        ("axes", "maps"),
        _infer_scatter,
        scatter_reference,
    ),
)
