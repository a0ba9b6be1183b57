"""References of the ops that carry access maps: every element by its definition, vectorised over the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rooftile.ir.core import Op
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import FloorDiv, Size, Symbol
from rooftile.ir.optable import Evaluation
from rooftile.ir.substitution import evaluate

Index = torch.Tensor | int


def index_value(size: Size, axes: Mapping[str, Index], bindings: Mapping[str, int]) -> Index:
    """The value of an index expression where each axis is a tensor of positions (or a number)."""
    if isinstance(size, int):
        return size
    total: Index = 0
    for monomial, coefficient in size.terms:
        term: Index = coefficient
        for atom in monomial:
            if isinstance(atom, Symbol):
                factor = axes[atom.name] if atom.name in axes else bindings[atom.name]
            else:
                num, den = index_value(atom.num, axes, bindings), index_value(atom.den, axes, bindings)
                factor = num // den if isinstance(atom, FloorDiv) else num % den
            term = term * factor
        total = total + term
    return total


def _positions(attrs_axes: Any, ev: Evaluation, device: torch.device) -> tuple[dict[str, Index], list[int]]:
    sizes = [evaluate(size, ev.bindings) for _, size in attrs_axes]
    grid: dict[str, Index] = {}
    for number, (name, _) in enumerate(attrs_axes):
        shape = [1] * len(sizes)
        shape[number] = sizes[number]
        grid[name] = torch.arange(sizes[number], device=device).reshape(shape)
    return grid, sizes


def _read(x: torch.Tensor, index: Sequence[Index], sizes: list[int]) -> torch.Tensor:
    """``x`` at ``index`` (one entry per dimension), broadcast over the axes' space."""
    if not index:
        return x.reshape([1] * len(sizes))
    whole = [
        i if isinstance(i, torch.Tensor) else torch.tensor(i, device=x.device).reshape([1] * len(sizes)) for i in index
    ]
    return x[tuple(torch.broadcast_tensors(*whole))]


def gather_reference(op: Op, inputs: Sequence[torch.Tensor], ev: Evaluation) -> tuple[torch.Tensor, ...]:
    """``out[axes] = x[map over axes and index values]``."""
    axes: Any = op.attrs["axes"]
    maps: Any = op.attrs["maps"]
    grid, sizes = _positions(axes, ev, inputs[0].device)
    names = dict(grid)
    for number, (index, access) in enumerate(zip(inputs[1:], maps[1:], strict=True), start=1):
        names[f"idx{number}"] = _read(index, [index_value(e, grid, ev.bindings) for e in access], sizes)
    read = _read(inputs[0], [index_value(e, names, ev.bindings) for e in maps[0]], sizes)
    return (read.expand(sizes),)


def scatter_reference(op: Op, inputs: Sequence[torch.Tensor], ev: Evaluation) -> tuple[torch.Tensor, ...]:
    """``x``, but ``x[map over axes and index values] = source[axes]``."""
    axes: Any = op.attrs["axes"]
    maps: Any = op.attrs["maps"]
    x, source, *indices = inputs
    grid, sizes = _positions(axes, ev, x.device)
    names = dict(grid)
    for number, (index, access) in enumerate(zip(indices, maps[2:], strict=True), start=1):
        names[f"idx{number}"] = _read(index, [index_value(e, grid, ev.bindings) for e in access], sizes)
    places = [torch.as_tensor(index_value(e, names, ev.bindings), device=x.device) for e in maps[0]]
    out = x.clone()
    out[tuple(p.expand(sizes) for p in places)] = source
    return (out,)


def contract_reference(op: Op, inputs: Sequence[torch.Tensor], ev: Evaluation) -> tuple[torch.Tensor, ...]:
    """The sum of products, with operands and sum in the accumulation dtype, one cast at the end."""
    axes: Any = op.attrs["axes"]
    acc, out_dtype = op.attrs["acc"], op.attrs["dtype"]
    assert isinstance(acc, DType) and isinstance(out_dtype, DType)
    grid, sizes = _positions(axes, ev, inputs[0].device)
    names = [name for name, _ in axes]
    letters = {name: chr(ord("a") + number) for number, name in enumerate(names)}
    operands, terms = [], []
    for x, access in zip(inputs, op.attrs["maps"], strict=True):
        read = _read(x.to(ev.dtype(acc)), [index_value(e, grid, ev.bindings) for e in access], sizes)
        used = [d for d in range(len(sizes)) if read.shape[d] != 1]
        operands.append(read.reshape([read.shape[d] for d in used]))
        terms.append("".join(letters[names[d]] for d in used))
    kept = [a for a in op.attrs["out"] if any(letters[a] in t for t in terms)]
    result = torch.einsum(",".join(terms) + "->" + "".join(letters[a] for a in kept), *operands)
    for name, size in zip(names, sizes, strict=True):  # an axis that no operand reads is summed as often as it is long
        if name not in op.attrs["out"] and size != 1 and not any(letters[name] in t for t in terms):
            result = result * size
    shape = [sizes[names.index(a)] if a in kept else 1 for a in op.attrs["out"]]
    full = [sizes[names.index(a)] for a in op.attrs["out"]]
    return (result.reshape(shape).expand(full).to(ev.dtype(out_dtype)),)
