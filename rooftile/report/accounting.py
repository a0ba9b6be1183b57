"""Bytes moved and arithmetic done, counted from the IR: for a kernel, and for a graph run op by op as eager would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import Size, size_symbols
from rooftile.ir.graph_ops import GRAPH_OPS
from rooftile.ir.polynomial import add, mul, product
from rooftile.ir.scalar import SCALARS
from rooftile.ir.substitution import evaluate
from rooftile.passes.schedules.calls import multiplied
from rooftile.report.data import LineRow, Quantity
from rooftile.target import Target

# They only rename elements, and eager makes them without moving any.
EAGER_VIEWS = frozenset({"permute", "expand", "reshape", "slice"})
SCALAR_SOURCES = frozenset({"constant", "size"})


@dataclass(frozen=True)
class Work:
    """What a kernel moves and computes. ``dtype`` is that of its contractions' operands (fp32 without any)."""

    bytes: Size
    matmul_flops: Size
    scalar_flops: Size
    dtype: str = "f32"

    @property
    def flops(self) -> Size:
        return add(self.matmul_flops, self.scalar_flops)

    def floor_us(self, target: Target, sizes: Mapping[str, int]) -> float | None:
        """The roofline in microseconds; None where a size isn't known."""
        moved, computed = known(self.bytes, sizes), known(self.matmul_flops, sizes)
        if not isinstance(moved, int) or not isinstance(computed, int):
            return None
        return target.floor_seconds(moved, computed, self.dtype) * 1e6


def known(size: Size, sizes: Mapping[str, int]) -> Quantity:
    """The number, where ``sizes`` has every symbol; else the expression as text."""
    if all(s.name in sizes for s in size_symbols(size)):
        return evaluate(size, sizes)
    return str(size)


def kernel_work(body: Graph) -> Work:
    """The work of a region that runs as one kernel."""
    moved: Size = 0
    for value, elements in elements_read(body).items():
        moved = add(moved, mul(elements, value.dtype.bytes))
    scattered = {op.output: op.inputs[1] for op in body.ops if op.name == "scatter"}
    for value in body.outputs:
        moved = add(moved, scattered.get(value, value).type.bytes)
    matmul, scalar = arithmetic(body)
    return Work(moved, matmul, scalar, _operand_dtype(body))


def extern_work(op: Op) -> Work:
    """The traffic of an ATen call; its arithmetic isn't known."""
    moved: Size = 0
    for value in (*dict.fromkeys(op.inputs), *op.outputs):
        moved = add(moved, value.type.bytes)
    return Work(moved, 0, 0)


def library_work(op: Op, kernel: Work) -> Work:
    """The work of a library's call: that of a product, or else of the ``kernel`` in whose place it is."""
    product, dtype = multiplied(op), op.inputs[0].dtype.name
    if product is not None:
        return replace(extern_work(op), matmul_flops=product, dtype=dtype)
    return replace(kernel, bytes=extern_work(op).bytes)


def elements_read(body: Graph) -> dict[Value, Size]:
    """How many elements of each input a region touches: all, unless every reader takes a slice or gathers."""
    users = body.users()
    return {value: _touched(value, users.get(value, [])) for value in body.inputs}


def _touched(value: Value, users: list[Op]) -> Size:
    total: Size = 0
    for op in users:
        if op.name == "scatter" and value is op.inputs[0]:
            continue  # written into, not read
        selects = op.name == "slice" or (op.name == "gather" and value not in op.inputs[1:])
        if not selects:
            return value.type.numel
        total = add(total, op.output.type.numel)
    return _smaller(total, value.type.numel)


def _smaller(a: Size, b: Size) -> Size:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else a


def eager_bytes(graph: Graph) -> Size:
    """The traffic of ``graph`` run op by op: each op reads its operands from memory and writes its result there."""
    behind: dict[Value, Size] = {}  # the elements in memory that a value stands for
    segments = {op.output for op in graph.ops if op.name == "segment"}
    total: Size = 0
    for op in graph.ops:
        if op.name in SCALAR_SOURCES:
            behind[op.output] = 0
        elif op.name == "segment":
            behind[op.output] = op.inputs[0].type.numel
        elif op.name == "gather" and not segments.isdisjoint(op.inputs[1:]):  # each matrix is read where it is
            behind[op.output] = _smaller(op.output.type.numel, behind.get(op.inputs[0], op.inputs[0].type.numel))
        elif op.name in EAGER_VIEWS:
            behind[op.output] = _behind_view(op, behind)
        elif op.name != "called":
            total = add(total, _op_bytes(op, behind))
    return total


def _behind_view(op: Op, behind: Mapping[Value, Size]) -> Size:
    (source,) = op.inputs
    whole = behind.get(source, source.type.numel)
    return _smaller(op.output.type.numel, whole) if op.name == "slice" else whole


def _op_bytes(op: Op, behind: Mapping[Value, Size]) -> Size:
    total: Size = 0
    for value in dict.fromkeys(op.inputs):
        elements = behind.get(value, value.type.numel)
        if op.name == "scatter" and value is op.inputs[0]:
            continue
        if op.name == "gather" and value is op.inputs[0]:
            elements = _smaller(op.output.type.numel, elements)
        total = add(total, mul(elements, value.dtype.bytes))
    if op.name == "scatter":  # eager writes in place, too
        return add(total, op.inputs[1].type.bytes)
    for value in op.outputs:
        total = add(total, value.type.bytes)
    return total


def arithmetic(graph: Graph) -> tuple[Size, Size]:
    """The FLOPs of the contractions in ``graph``, and of everything else."""
    matmul: Size = 0
    scalar: Size = 0
    for op in graph.ops:
        if op.name == "contract":
            matmul = add(matmul, mul(product([n for _, n in op.attrs["axes"]]), max(1, len(op.inputs))))
        elif op.name == "region":
            inner = arithmetic(op.regions[0])
            matmul, scalar = add(matmul, inner[0]), add(scalar, inner[1])
        elif op.name == "pointwise":
            scalar = add(scalar, mul(op.output.type.numel, SCALARS[op.attrs["fn"]].flops))
        elif op.name in ("reduce", "scan"):
            scalar = add(scalar, op.inputs[0].type.numel)
    return matmul, scalar


def _operand_dtype(body: Graph) -> str:
    return next((op.inputs[0].dtype.name for op in body.ops if op.name == "contract"), "f32")


def op_names(body: Graph) -> tuple[str, ...]:
    """What a region computes, in order, views and constants left out: ``contract``, ``reduce.sum``, ``mul``."""
    return tuple(op_name(op) for op in body.ops if computes(op))


def computes(op: Op) -> bool:
    """Whether an op does more than rename elements or give a number."""
    return op.name not in SCALAR_SOURCES and not (op.name in GRAPH_OPS and GRAPH_OPS[op.name].view)


def op_name(op: Op) -> str:
    """``contract``, ``reduce.sum``, ``mul``; an ATen call by its own name."""
    if op.name == "extern":
        return str(op.attrs["target"])
    fn = op.attrs.get("fn")
    return op.name if fn is None else str(fn) if op.name == "pointwise" else f"{op.name}.{fn}"


def lines(ops: Sequence[Op]) -> tuple[LineRow, ...]:
    """What ``ops`` compute of each of the user's lines, in order; views and constants only where a line has no more."""
    found: dict[tuple[str, str], list[str]] = {}
    for op in ops:
        if op.loc.source or op.loc.module:
            names = found.setdefault((op.loc.module, op.loc.source), [])
            names += [op_name(op)] if computes(op) else []
    return tuple(LineRow(module, source, tuple(names)) for (module, source), names in found.items())


def sources(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """The user's ``file:line`` of these ops, each once, in order."""
    return tuple(dict.fromkeys(op.loc.source for op in ops if op.loc.source))
