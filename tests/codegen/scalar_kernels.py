"""Kernels that apply every scalar function, cast, reduction and scan of one dtype, and what torch makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rooftile.ir.builder import TileBuilder
from rooftile.ir.core import Graph, TensorType, Value
from rooftile.ir.dtypes import B1, BF16, DTYPES, F8E5M2, F16, F32, F64, I8, I16, I32, I64, U8, DType
from rooftile.ir.expr import axis
from rooftile.ir.scalar import COMBINES, SCALARS, SCANS, Scalar

ROWS, COLUMNS = 8, 16
_EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e-3, 80.0, float("inf"), float("-inf"), float("nan"))
# Division by zero and infinities differ from one library to another.
_TAME = frozenset({"floordiv", "mod", "fmod", "pow", "truncdiv"})


@dataclass(frozen=True)
class Output:
    """One result of a kernel, and torch's."""

    what: str
    exact: torch.Tensor


def takes(row: Scalar, dtype: DType) -> bool:
    """Whether torch computes the function on this dtype."""
    if row.operands != "any":
        return row.operands == dtype.kind
    refused = {"sub", "neg", "abs", "sign", "floordiv", "truncdiv", "mod", "fmod"} if dtype is B1 else set()
    if dtype is U8:
        refused |= {"neg"}
    if dtype.is_float:
        refused |= {"and", "or", "xor", "not"}
    return row.name not in refused


def values(dtype: DType, count: int, seed: int, *, tame: bool = False) -> torch.Tensor:
    """Numbers that try the edges of ``dtype``; positive and moderate ones if ``tame``."""
    generator = torch.Generator().manual_seed(seed)
    if dtype is B1:
        return torch.randint(0, 2, (count,), generator=generator).bool()
    if not dtype.is_float:
        low = 0 if dtype is U8 else -50
        x = torch.randint(low, 50, (count,), generator=generator)
        return torch.where(x == 0, 7, x).to(dtype.torch) if tame else x.to(dtype.torch)
    x = torch.randn(count, generator=generator, dtype=torch.float64) * 2
    if tame:
        return (x.abs() + 0.5).to(dtype.torch)
    x[: len(_EDGES)] = torch.tensor(_EDGES, dtype=torch.float64)[torch.randperm(len(_EDGES), generator=generator)]
    return x.to(dtype.torch)


def pointwise_kernel(dtype: DType) -> tuple[Graph, list[torch.Tensor], list[Output]]:
    """Every scalar function that torch has on ``dtype``, elementwise."""
    rows = [row for row in SCALARS.values() if takes(row, dtype)]
    b = TileBuilder(f"pointwise_{dtype}")
    count = 64
    i, axes = axis("i", count), (("i", count),)
    names = ("a", "b", "tame_a", "tame_b", "shift", "choose")
    dtypes = (*[dtype] * 5, B1)
    buffers = [b.input(n, TensorType(d, (count,))) for n, d in zip(names, dtypes, strict=True)]
    load = {"index": (i,), "axes": axes, "guard": (), "fill": None}
    loaded = dict(zip(names, [b.op("load", (x,), load) for x in buffers], strict=True))
    inputs = {
        "a": values(dtype, count, 0),
        "b": values(dtype, count, 1),
        "tame_a": values(dtype, count, 2, tame=True),
        "tame_b": values(dtype, count, 3, tame=True),
        "shift": torch.arange(count).remainder(5).to(dtype.torch),
        "choose": values(B1, count, 5),
    }
    results: list[tuple[str, Value, torch.Tensor]] = []
    for row in rows:
        operands = _operands(row)
        value = b.op("pointwise", [loaded[n] for n in operands], {"fn": row.name, "axes": axes})
        exact = row.reference(*(inputs[n] for n in operands))
        results.append((row.name, value, exact))
    return _finish(b, axes, list(inputs.values()), results)


def _operands(row: Scalar) -> tuple[str, ...]:
    if row.name == "where":
        return ("choose", "a", "b")
    if row.name in ("shl", "shr"):
        return ("a", "shift")
    return ("tame_a", "tame_b") if row.name in _TAME else ("a", "b")[: row.arity]


def cast_kernel(dtype: DType) -> tuple[Graph, list[torch.Tensor], list[Output]]:
    """``dtype`` cast to every other."""
    count = 64
    b = TileBuilder(f"cast_{dtype}")
    i, axes = axis("i", count), (("i", count),)
    x = values(dtype, count, 0, tame=True)
    if dtype.is_float:
        x = (x.double() * torch.where(torch.arange(count) % 2 == 0, 1, -1)).to(dtype.torch)
    loaded = b.op(
        "load", (b.input("x", TensorType(dtype, (count,))),), {"index": (i,), "axes": axes, "guard": (), "fill": None}
    )
    results = [
        (f"cast to {target}", b.op("cast", (loaded,), {"dtype": target}), x.to(target.torch))
        for target in DTYPES.values()
        if target.in_kernels and target is not dtype
    ]
    return _finish(b, axes, [x], results)


def overflow_kernel(dtype: DType) -> tuple[Graph, list[torch.Tensor], list[Output]]:
    """``dtype`` cast to f8e5m2, which has infinities, at the ends of its range and beyond."""
    count = 16
    ends = torch.tensor([57344, 61439, 61440, 65536, 1e9, float("inf")], dtype=torch.float64)
    x = torch.cat([ends, -ends, torch.tensor([float("nan"), 0.0, -0.0, 1e-9])]).to(dtype.torch)
    b = TileBuilder(f"overflow_{dtype}")
    i, axes = axis("i", count), (("i", count),)
    load = {"index": (i,), "axes": axes, "guard": (), "fill": None}
    loaded = b.op("load", (b.input("x", TensorType(dtype, (count,))),), load)
    value = b.op("cast", (loaded,), {"dtype": F8E5M2})
    return _finish(b, axes, [x], [("cast", value, x.to(F8E5M2.torch))])


def along_kernel(dtype: DType) -> tuple[Graph, list[torch.Tensor], list[Output]]:
    """Every reduction and scan over the last of two axes, of whole rows; one row holds NaN, one holds equal numbers."""
    b = TileBuilder(f"along_{dtype}")
    i, j, axes = axis("i", ROWS), axis("j", COLUMNS), (("i", ROWS), ("j", COLUMNS))
    x = values(dtype, ROWS * COLUMNS, 0, tame=True).reshape(ROWS, COLUMNS)
    x[1] = x[1, 0]
    if dtype.is_float and dtype.bytes > 1:
        x[2, 5] = x[2, 9] = torch.nan
        x[3, 4] = torch.inf
    loaded = b.op(
        "load",
        (b.input("x", TensorType(dtype, (ROWS, COLUMNS))),),
        {"index": (i, j), "axes": axes, "guard": (), "fill": None},
    )
    results = []
    for name, row in COMBINES.items():
        if (name in ("any", "all")) == (dtype is B1) and not (dtype is B1 and row.position):
            value = b.op("reduce", (loaded,), {"fn": name, "axis": "j"})
            results.append((f"reduce {name}", value, row.reference(_wide(x), (1,)).to(value.dtype.torch)))
    for name, scan in SCANS.items() if dtype is not B1 else ():
        value = b.op("scan", (loaded,), {"fn": name, "axis": "j"})
        results.append((f"scan {name}", value, scan(_wide(x), 1).to(value.dtype.torch)))
    return _finish(b, axes, [x], results)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Narrow floats in fp32: the sum of a row is rounded once."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def _finish(
    b: TileBuilder,
    axes: tuple[tuple[str, int], ...],
    inputs: list[torch.Tensor],
    results: list[tuple[str, Value, torch.Tensor]],
) -> tuple[Graph, list[torch.Tensor], list[Output]]:
    """Store every result into a buffer of its own."""
    symbols = {name: axis(name, n) for name, n in axes}
    for name, value, _ in results:
        buffer = b.input(f"{name}_out", TensorType(value.dtype, value.shape))
        b.multi("store", (buffer, value), {"index": tuple(symbols[a] for a in value.type.axes or ()), "guard": ()})
    attrs = {"outputs": len(results), "axes": tuple((n, s, "whole", s) for n, s in axes), "grid": (), "group": None}
    graph = b.finish((), attrs | {"num_warps": 4, "num_stages": 1})
    return graph, inputs, [Output(name, exact) for name, _, exact in results]


def tolerance(what: str, dtype: torch.dtype) -> tuple[float, float]:
    """The relative and absolute error that one element may have: a few units in the last place.

    A GPU's ``exp`` is a power of two whose argument is rounded: at 80 that is 32 units.
    """
    if not dtype.is_floating_point or what.startswith("cast"):
        return 0, 0
    ulps = {"sin": 8, "cos": 8, "tan": 16, "exp": 64, "exp2": 8, "expm1": 8, "sigmoid": 64, "pow": 32}.get(what, 4)
    eps = torch.finfo(dtype).eps
    return ulps * eps if dtype in (torch.float32, torch.float64) else 2 * eps, ulps * torch.finfo(dtype).tiny


def assert_agrees(ours: torch.Tensor, output: Output) -> None:
    """Every element is torch's, to ``tolerance``."""
    rtol, atol = tolerance(output.what, output.exact.dtype)
    narrow = output.exact.is_floating_point() and output.exact.element_size() == 1
    mine, theirs = (x.float() if narrow else x for x in (ours, output.exact))
    torch.testing.assert_close(
        mine, theirs, rtol=rtol, atol=atol, equal_nan=True, msg=lambda text: f"{output.what}: {text}"
    )


Kernel = tuple[Graph, list[torch.Tensor], list[Output]]
COMPUTED = (F64, F32, F16, BF16, I64, I32, I16, I8, U8, B1)
KERNELS: list[tuple[Callable[[DType], Kernel], DType]] = [
    *((pointwise_kernel, d) for d in COMPUTED),
    *((along_kernel, d) for d in COMPUTED),
    *((overflow_kernel, d) for d in (F64, F32, BF16)),
    *((cast_kernel, d) for d in DTYPES.values() if d.in_kernels),
]
