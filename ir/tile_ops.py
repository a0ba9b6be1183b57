"""The tile-level op table: what one program of a kernel does.

A kernel is a ``Graph`` whose inputs are buffers (``attrs["outputs"]`` of them, the last ones, are written) and which
returns nothing. Its attributes:

- ``axes``: ``((name, extent, role, tile), ...)``, outermost first; role is ``"grid"``, ``"ragged"``, ``"loop"`` or
  ``"whole"``. A tile is a power of two. A ragged axis has a position once its tile has been placed.
- ``grid``: the names of the grid axes in launch order, fastest first.
- ``group``: ``(axis, n)`` or None: programs are numbered so that ``n`` neighbouring tiles of ``axis`` run together (L2
  reuse).
- ``num_warps``, ``num_stages``, and options of ``rooftile.ir.schedule``.

An axis name inside an index expression stands for the positions that the current tile covers, so program ids and tile
offsets never appear. A tile value's ``axes`` name its dimensions (axes with a tile of 1 are scalars and absent); tiles
meet by name. ``guard`` is ``((expr, extent), ...)`` and means ``0 <= expr < extent`` for each. The symbols ``idx1``,
``idx2``, ... in an index, expr or guard stand for the values of the op's index operands: the operands that follow the
buffer of a load, the buffer and value of a store, and all operands of ``index`` and ``inside``. Loop bodies may read
values from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rooftile.ir.core import Op, TensorType, Value
from rooftile.ir.dtypes import B1, I64
from rooftile.ir.optable import InferenceError, OpDef, require, scalar_row
from rooftile.ir.scalar import COMBINES, SCANS

Types = Sequence[TensorType]
Attrs = Mapping[str, Any]


def _tile(dtype: Any, axes: Sequence[tuple[str, int]]) -> tuple[TensorType, ...]:
    return (TensorType(dtype, tuple(n for _, n in axes), tuple(a for a, _ in axes)),)


def tile_axes(t: TensorType) -> tuple[tuple[str, int], ...]:
    """``((axis, tile), ...)`` of a tile value's type."""
    if t.axes is None:
        raise InferenceError(f"a tile value needs named axes, got {t}")
    return tuple((a, int(str(n))) for a, n in zip(t.axes, t.shape, strict=True))


def _infer_load(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    require(len(attrs["index"]) == types[0].rank, f"load index {attrs['index']} for a buffer of rank {types[0].rank}")
    return _tile(types[0].dtype, attrs["axes"])


def _infer_store(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    buffer, value = types[0], types[1]
    require(len(attrs["index"]) == buffer.rank, f"store index {attrs['index']} for a buffer of rank {buffer.rank}")
    require(buffer.dtype is value.dtype, f"store of {value.dtype} into a buffer of {buffer.dtype}")
    return ()


def _infer_index(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _tile(I64, attrs["axes"])


def _infer_inside(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _tile(B1, attrs["axes"])


def _infer_constant(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _tile(attrs["dtype"], attrs["axes"])


def _infer_pointwise(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    row = scalar_row(types, attrs)
    held = dict(attrs["axes"])
    for t in types:
        require(
            all(held.get(a) == n for a, n in tile_axes(t)), f"{row.name}: operand axes {tile_axes(t)} not among {held}"
        )
    return _tile(row.result_dtype(tuple(t.dtype for t in types)), attrs["axes"])


def _infer_cast(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _tile(attrs["dtype"], tile_axes(types[0]))


def _infer_reduce(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    require(attrs["fn"] in COMBINES, f"unknown reduction {attrs['fn']!r}")
    held = tile_axes(types[0])
    require(attrs["axis"] in dict(held), f"reduce over {attrs['axis']}, which the operand {held} doesn't hold")
    dtype = I64 if COMBINES[attrs["fn"]].position else types[0].dtype
    return _tile(dtype, [(a, n) for a, n in held if a != attrs["axis"]])


def _infer_scan(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    require(attrs["fn"] in SCANS, f"unknown scan {attrs['fn']!r}")
    require(attrs["axis"] in dict(tile_axes(types[0])), f"scan over {attrs['axis']}, which the operand doesn't hold")
    return _tile(types[0].dtype, tile_axes(types[0]))


def _infer_dot(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    a, b = tile_axes(types[0]), tile_axes(types[1])
    axis = attrs["axis"]
    require(len(a) == 2 and len(b) == 2, f"dot wants two tiles of two axes, got {a} and {b}")
    require(axis in dict(a) and axis in dict(b), f"dot over {axis}, which {a} and {b} do not both hold")
    rest = [(n, s) for n, s in (*a, *b) if n != axis]
    require(rest[0][0] != rest[1][0], f"dot of {a} and {b} has the axis {rest[0][0]} twice")
    return _tile(attrs["acc"], rest)


def _infer_first(_: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return _tile(I64, ())


def _infer_place(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    require(types[0].dtype is I64 and types[0].rank == 0, f"a tile is placed at an i64 scalar, got {types[0]}")
    return ()


def _infer_count(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    require(types[0].dtype.kind == "int" and types[0].rank == 0, f"tiles are counted by a scalar, got {types[0]}")
    return ()


def _infer_loop(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    ends = 2 * attrs["ranges"]
    require(len(types) >= ends, f"a loop over {attrs['ranges']} ranges takes {ends} ends, got {len(types)} operands")
    for t in types[:ends]:
        require(t.dtype is I64 and t.rank == 0, f"the ends of a loop's ranges are i64 scalars, got {t}")
    return tuple(types[ends:])


def loop_ranges(op: Op) -> list[tuple[Value, Value]]:
    """The first position and the end of each range that a loop runs over; none where it runs over its whole axis."""
    ends = op.inputs[: 2 * op.attrs["ranges"]]
    return list(zip(ends[::2], ends[1::2], strict=True))


def loop_starts(op: Op) -> tuple[Value, ...]:
    """The operands of a loop that its carried state starts from."""
    return op.inputs[2 * op.attrs["ranges"] :]


def values_read(op: Op) -> set[Value]:
    """What an op reads, inside its loops too."""
    found = set(op.inputs)
    for region in op.regions:
        found.update(region.outputs)
        for inner in region.ops:
            found |= values_read(inner)
    return found


def _infer_check(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    require(types[0].dtype is B1, f"check wants a b1, got {types[0].dtype}")
    return ()


TILE_OPS: dict[str, OpDef] = {
    row.name: row
    for row in (
        OpDef(
            "load",
            "Read a buffer at index (idxN stands for the value of operand N); fill where the guard fails.",
            ("index", "axes", "guard", "fill"),
            _infer_load,
            None,
        ),
        OpDef(
            "store",
            "Write operand 1 into buffer operand 0 at index, where the guard holds.",
            ("index", "guard"),
            _infer_store,
            None,
        ),
        OpDef("index", "The value of an index expression, as i64.", ("expr", "axes"), _infer_index, None),
        OpDef("first", "The first position of the current tile of axis, as i64.", ("axis",), _infer_first, None),
        OpDef(
            "place",
            "Let the tile that the rest of the block works on start at operand 0: of a loop's axis, where that is a "
            "multiple of the tile, or of a ragged one.",
            ("axis",),
            _infer_place,
            None,
        ),
        OpDef(
            "count",
            "An axis of the grid has no more tiles than operand 0, which is the same in all programs: those beyond are "
            "over.",
            ("axis",),
            _infer_count,
            None,
        ),
        OpDef("inside", "Whether the guard holds.", ("guard", "axes"), _infer_inside, None),
        OpDef("check", "Stop with message unless all of a b1 tile is true.", ("message",), _infer_check, None),
        OpDef("constant", "A number, broadcast to axes.", ("value", "dtype", "axes"), _infer_constant, None),
        OpDef("pointwise", "A scalar function of tiles, aligned by axis name.", ("fn", "axes"), _infer_pointwise, None),
        OpDef("cast", "The same values in another dtype.", ("dtype",), _infer_cast, None),
        OpDef(
            "reduce",
            "Combine along an axis that the tile holds; argmax and argmin give the position in the tile.",
            ("fn", "axis"),
            _infer_reduce,
            None,
        ),
        OpDef("scan", "Running combination along an axis that the tile holds.", ("fn", "axis"), _infer_scan, None),
        OpDef(
            "dot",
            "Sum over axis of a[.., axis] * b[axis, ..], plus operand 2 if given. Precision is for fp32 operands; of "
            "narrow floats, exact says that operand 2 is added by fp32 arithmetic, not by the matrix unit.",
            ("axis", "acc", "precision"),
            _infer_dot,
            None,
        ),
        OpDef(
            "loop",
            "Run the body for each tile of axis in order; operands are the carried state's start, results its end. "
            "Before them stand the first position and the end of each of the ranges (0: the whole axis) that alone are "
            "run; a range starts where a tile does. The phase, for the reader: all, bare (no mask), masked, rest, "
            "again. Stages, where Triton may give it others than the kernel's.",
            ("axis", "ranges", "phase", "stages"),
            _infer_loop,
            None,
        ),
    )
}


def infer_tile_op(name: str, types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """The result types of a tile-level op.

    Raises:
        InferenceError: the op doesn't exist, or doesn't accept these operands and attributes.
    """
    require(name in TILE_OPS, f"unknown tile op {name!r}")
    row = TILE_OPS[name]
    require(set(attrs) == set(row.attrs), f"{name} takes the attributes {list(row.attrs)}, got {list(attrs)}")
    return row.infer(types, attrs)
