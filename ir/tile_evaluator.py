"""Runs a tile-level kernel on torch tensors: every program of the grid in turn, loops in order, one tile at a time.

It is made to be obviously right: an axis is a tensor of positions, a tile value a tensor with one dimension per axis of
its type, and tiles meet by the names of their axes. A read outside a buffer that no guard keeps away raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, product

import torch

from rooftile.errors import InternalError, OutOfRangeError
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Graph, Op, Value, exprs
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size, symbols
from rooftile.ir.printer import print_op
from rooftile.ir.reference import Index, index_value
from rooftile.ir.replacing import replaced_operands
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS
from rooftile.ir.substitution import evaluate
from rooftile.ir.text import TILE
from rooftile.ir.tile_ops import loop_ranges, loop_starts
from rooftile.ir.visits import placed_axis

Axes = tuple[tuple[str, int], ...]
_DIVISIONS = frozenset({"floordiv", "truncdiv", "mod", "fmod"})


class _Over(Exception):
    """A program whose tile is beyond those that there are."""


class OutOfBounds(InternalError):
    """A lane that no guard masks reads or writes outside its buffer."""


def run_region(op: Op, inputs: Sequence[torch.Tensor], bindings: Mapping[str, int]) -> list[torch.Tensor]:
    """The results of a lowered region op, computed by its kernel into buffers that start out undefined, or as copies of
    what it replaces elements of."""
    outputs = []
    over = replaced_operands(op)
    device = inputs[0].device if inputs else torch.get_default_device()
    for value in op.outputs:
        if value in over:
            outputs.append(inputs[op.inputs.index(over[value])].clone())
            continue
        shape = [evaluate(s, bindings) for s in value.shape]
        outputs.append(torch.full(shape, undefined(value.dtype), dtype=value.dtype.torch, device=device))
    run_kernel(op.regions[1], [*inputs, *outputs], bindings)
    return outputs


def run_kernel(kernel: Graph, buffers: Sequence[torch.Tensor], bindings: Mapping[str, int] | None = None) -> None:
    """Run ``kernel`` on ``buffers``, one per input; those of its outputs, the last ones, are written.

    Args:
        kernel: a tile-level graph (see ``rooftile.ir.tile_ops``).
        buffers: tensors of the inputs' shapes and dtypes; strides don't matter.
        bindings: run-time sizes that the buffers' shapes don't tell.

    Raises:
        OutOfBounds: a guard is missing.
        OutOfRangeError: an index among the data lies outside what it indexes.
        InputError: the shapes of the buffers don't fit.
    """
    sizes = bind_sizes(kernel.inputs, [tuple(b.shape) for b in buffers], bindings)
    with torch.no_grad(), torch.device(buffers[0].device):
        for positions in _programs(kernel, sizes):
            with suppress(_Over):
                _Program(kernel, sizes, positions, dict(zip(kernel.inputs, buffers, strict=True))).run(kernel)


def undefined(dtype: DType) -> float | int:
    """What stands for a value that must not be used: NaN, or the lowest integer."""
    if dtype.is_float:
        return float("nan")
    return torch.iinfo(dtype.torch).min if dtype.kind == "int" else True


def _programs(kernel: Graph, sizes: Mapping[str, int]) -> Iterator[dict[str, Index]]:
    """The positions of all axes but the loops', for each program."""
    axes = [(name, evaluate(extent, sizes), role, tile) for name, extent, role, tile in kernel.attrs["axes"]]
    whole = {name: _positions(0, tile) for name, _, role, tile in axes if role == "whole"}
    grid = [(name, extent, tile) for name, extent, role, tile in axes if role == "grid"]
    for starts in product(*(range(0, extent, tile) for _, extent, tile in grid)):
        yield whole | {name: _positions(at, tile) for at, (name, _, tile) in zip(starts, grid, strict=True)}


def _positions(start: int, tile: int) -> Index:
    return start if tile == 1 else start + torch.arange(tile)


def _aligned(x: torch.Tensor, axes: Sequence[str], to: Sequence[str]) -> torch.Tensor:
    """``x``, whose dimensions are ``axes``, with the dimensions ``to``; size 1 where it has none of that name."""
    ordered = x.permute([axes.index(a) for a in to if a in axes])
    sizes = iter(ordered.shape)
    return ordered.reshape([next(sizes) if a in axes else 1 for a in to])


def _type_axes(value: Value) -> Axes:
    return tuple((a, evaluate(n, {})) for a, n in zip(value.type.axes or (), value.shape, strict=True))


class _Program:
    """One program: where its axes stand, and the values so far (buffers included)."""

    def __init__(
        self, kernel: Graph, sizes: Mapping[str, int], positions: dict[str, Index], values: dict[Value, torch.Tensor]
    ) -> None:
        self.extents = {name: (evaluate(extent, sizes), tile) for name, extent, _, tile in kernel.attrs["axes"]}
        self.sizes = sizes
        self.positions = positions
        self.values = values

    def run(self, graph: Graph) -> list[torch.Tensor]:
        for op in graph.ops:
            results = _RUN[op.name](self, op)
            self.values.update(zip(op.outputs, results, strict=True))
        return [self.values[v] for v in graph.outputs]

    # Index expressions.

    def names(self, axes: Axes, indices: Sequence[Value]) -> dict[str, Index]:
        """What the symbols of an op's expressions stand for, as tensors with one dimension per axis in ``axes``."""
        order = [a for a, _ in axes]
        found: dict[str, Index] = {a: x for a, x in self.positions.items() if isinstance(x, int)}
        for a in order:
            position = self.positions[a]
            found[a] = _aligned(position, [a], order) if isinstance(position, torch.Tensor) else position
        for number, v in enumerate(indices, start=1):
            found[f"idx{number}"] = _aligned(self.values[v], v.type.axes or (), order)
        return found

    def value(self, size: Size, names: Mapping[str, Index], axes: Axes) -> torch.Tensor:
        at = index_value(size, names, self.sizes)
        return torch.as_tensor(at).expand([n for _, n in axes])

    def mask(self, guard: Sequence[tuple[Size, Size]], names: Mapping[str, Index], axes: Axes) -> torch.Tensor:
        holds = torch.ones([n for _, n in axes], dtype=torch.bool)
        for size, extent in guard:
            at = self.value(size, names, axes)
            holds = holds & (at >= 0) & (at < self.value(extent, names, axes))
        return holds

    def lanes(self, op: Op, axes: Axes, indices: Sequence[Value]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Where each lane reads or writes (0 for masked ones), and which lanes the guard lets through."""
        names = self.names(axes, indices)
        mask = self.mask(op.attrs["guard"], names, axes)
        at = [self.value(e, names, axes) for e in op.attrs["index"]]
        shape = self.values[op.inputs[0]].shape
        for d, (position, size) in enumerate(zip(at, shape, strict=True)):
            wrong = mask & ((position < 0) | (position >= size))
            if wrong.any():
                what = f"{op.name} at {int(position[wrong][0])} of {size} in dimension {d}: a guard is missing"
                raise OutOfBounds(what, op=print_op(op, TILE), where=op.loc.source)
        return [torch.where(mask, position, 0) for position in at], mask

    # One method per op, each returning the results.

    def load(self, op: Op) -> list[torch.Tensor]:
        buffer, axes = self.values[op.inputs[0]], op.attrs["axes"]
        at, mask = self.lanes(op, axes, op.inputs[1:])
        fill = op.attrs["fill"]
        dtype = op.output.dtype
        masked = torch.full(mask.shape, undefined(dtype) if fill is None else fill, dtype=dtype.torch)
        if not mask.any():
            return [masked]
        return [torch.where(mask, buffer[tuple(at)] if at else buffer, masked)]

    def store(self, op: Op) -> list[torch.Tensor]:
        buffer, stored = self.values[op.inputs[0]], op.inputs[1]
        axes = self.store_axes(op)
        at, mask = self.lanes(op, axes, op.inputs[2:])
        tile = _aligned(self.values[stored], stored.type.axes or (), [a for a, _ in axes]).expand(mask.shape)
        buffer[tuple(position[mask] for position in at) if at else ...] = tile[mask] if at else tile[mask][0]
        return []

    def store_axes(self, op: Op) -> Axes:
        """The axes of the value, and those that it is broadcast along."""
        held = dict(_type_axes(op.inputs[1]))
        for expr in exprs((op.attrs["index"], op.attrs["guard"])):
            for symbol in symbols(expr):
                if symbol.name in self.extents and self.extents[symbol.name][1] > 1:
                    held.setdefault(symbol.name, self.extents[symbol.name][1])
        return tuple(held.items())

    def index(self, op: Op) -> list[torch.Tensor]:
        axes = op.attrs["axes"]
        return [self.value(op.attrs["expr"], self.names(axes, op.inputs), axes)]

    def first(self, op: Op) -> list[torch.Tensor]:
        position = self.positions[op.attrs["axis"]]
        return [torch.as_tensor(position).flatten()[0]]

    def place(self, op: Op) -> list[torch.Tensor]:
        axis = op.attrs["axis"]
        self.positions[axis] = _positions(int(self.values[op.inputs[0]]), self.extents[axis][1])
        return []

    def count(self, op: Op) -> list[torch.Tensor]:
        if self.positions[op.attrs["axis"]] >= int(self.values[op.inputs[0]]):
            raise _Over
        return []

    def check(self, op: Op) -> list[torch.Tensor]:
        if not self.values[op.inputs[0]].all():
            raise OutOfRangeError(op.attrs["message"], where=op.loc.source)
        return []

    def inside(self, op: Op) -> list[torch.Tensor]:
        axes = op.attrs["axes"]
        return [self.mask(op.attrs["guard"], self.names(axes, op.inputs), axes)]

    def constant(self, op: Op) -> list[torch.Tensor]:
        return [torch.full([n for _, n in op.attrs["axes"]], op.attrs["value"], dtype=op.output.dtype.torch)]

    def pointwise(self, op: Op) -> list[torch.Tensor]:
        axes = op.attrs["axes"]
        order = [a for a, _ in axes]
        operands = [_aligned(self.values[v], v.type.axes or (), order) for v in op.inputs]
        if op.attrs["fn"] in _DIVISIONS and op.inputs[1].dtype.kind == "int":
            # Masked lanes may divide by 0, which torch refuses; a lane that counts does so in eager too.
            operands[1] = torch.where(operands[1] == 0, 1, operands[1])
        return [SCALARS[op.attrs["fn"]].reference(*operands).expand([n for _, n in axes])]

    def cast(self, op: Op) -> list[torch.Tensor]:
        return [self.values[op.inputs[0]].to(op.output.dtype.torch)]

    def reduce(self, op: Op) -> list[torch.Tensor]:
        dim = (op.inputs[0].type.axes or ()).index(op.attrs["axis"])
        return [COMBINES[op.attrs["fn"]].reference(self.values[op.inputs[0]], (dim,))]

    def scan(self, op: Op) -> list[torch.Tensor]:
        dim = (op.inputs[0].type.axes or ()).index(op.attrs["axis"])
        return [SCANS[op.attrs["fn"]](self.values[op.inputs[0]], dim)]

    def dot(self, op: Op) -> list[torch.Tensor]:
        axis = op.attrs["axis"]
        m, n = op.output.type.axes or ()
        a, b = (
            _aligned(self.values[v].to(op.output.dtype.torch), v.type.axes or (), order)
            for v, order in zip(op.inputs, ((m, axis), (axis, n)), strict=False)
        )
        total = a @ b
        for v in op.inputs[2:]:
            total = total + _aligned(self.values[v], v.type.axes or (), (m, n))
        return [total]

    def loop(self, op: Op) -> list[torch.Tensor]:
        axis, body = op.attrs["axis"], op.regions[0]
        extent, tile = self.extents[axis]
        ranges = [(int(self.values[first]), int(self.values[end])) for first, end in loop_ranges(op)]
        state = [self.values[v] for v in loop_starts(op)]
        for start in chain.from_iterable(range(*ends, tile) for ends in ranges or [(0, extent)]):
            self.positions[axis] = _positions(start, tile)
            self.values.update(zip(body.inputs, state, strict=True))
            state = self.run(body)
        for name in (axis, placed_axis(op)):
            self.positions.pop(str(name), None)
        return state


_RUN: dict[str, Callable[[_Program, Op], list[torch.Tensor]]] = {name: getattr(_Program, name) for name in TILE.ops}
