"""Sums that rule Correct carries beside a sum, so that this can be corrected.

Where a factor ``x - r`` of what is summed is shifted by ``d``, the sum of the products needs the sum of the products
without that factor: ``sum w (x - r + d) = sum w (x - r) + d * sum w``. With ``(x - r) * (x - r)`` and the mean as
``r`` these sums and corrections are Chan's formula for the variance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypeAlias

from rooftile.ir.core import Op, TensorType, Value, freeze_attrs, unique_name
from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Size
from rooftile.ir.polynomial import product
from rooftile.ir.ranges import equal
from rooftile.ir.scalar import COMBINES, EXTREMES
from rooftile.passes.regions.access import Access, Node, Read
from rooftile.passes.rules.changes import passes_on

Path: TypeAlias = tuple[int, ...]

MOST_COUNTED = 2**24  # fp32 holds every whole number up to this one


class Extension:
    """An access that is grown by sums along axis ``name`` which its body does not have.

    ``access`` has all reads; ``depends`` are the reductions over the axis that each is computed from.
    """

    def __init__(self, access: Access, name: str) -> None:
        self.original, self.name = access, name
        self.access = replace(access, nodes=dict(access.nodes), free=dict(access.free))
        self.depends: dict[Read, frozenset[Read]] = {}
        for read in access.nodes:
            self._measure(read)
        self._ones: dict[DType, Read] = {}
        self._beside: dict[Read, list[Read]] = {}

    def finished(self, wanted: Collection[Read]) -> Access:
        """The grown access with its reads in order, of the added sums those that are ``wanted``; the original one
        where nothing was added."""
        if len(self.access.nodes) == len(self.original.nodes):
            return self.original
        ordered: dict[Read, Node] = {}
        for read in self.original.nodes:
            self._put(read, ordered, wanted)
        return replace(self.access, nodes=ordered)

    def _put(self, read: Read, ordered: dict[Read, Node], wanted: Collection[Read]) -> None:
        if read in ordered:
            return
        node = self.access.nodes[read]
        beside = [r for r in self._beside.get(read, ()) if r in wanted]
        for needed in (*node.operands, *self.access.index_reads(read).values(), *beside):
            self._put(needed, ordered, wanted)
        ordered[read] = node

    def without(self, reduction: Read, paths: Iterable[Path]) -> Read:
        """The reduction of the same products without the operands at ``paths`` below ``reduction``."""
        dropped = frozenset(paths)
        node = self.access.nodes[reduction]
        operands = tuple(self._rest(o, _below(dropped, n)) for n, o in enumerate(node.operands))
        return self._reduction(reduction, operands, "moment")

    def count(self, reduction: Read) -> Read:
        """How many elements ``reduction`` runs over, as a sum of ones."""
        return self._reduction(reduction, (self._one(reduction.value.dtype),), "count")

    def extreme(self, position: Read) -> Read:
        """The maximum (minimum) that stands where the reduction ``position`` says, a state of its own."""
        node = self.access.nodes[position]
        assert node.op is not None
        fn = EXTREMES[COMBINES[node.op.attrs["fn"]].scalar]
        dtype = node.operands[0].value.dtype
        value = self._fresh(f"{position.value.name}_{fn}", replace(position.value.type, dtype=dtype))
        op = replace(node.op, outputs=(value,), attrs=freeze_attrs({**node.op.attrs, "fn": fn}))
        read = self._add(Read(value, position.index, position.guard), replace(node, op=op))
        self._beside.setdefault(position, []).append(read)
        return read

    def count_extents(self, reference: Read) -> None:
        """Where a sum on the way to ``reference`` is divided by how many elements it has, divide by how many it has so
        far: at the end that is the same, and until then the mean is one of the elements that were seen."""
        node = self.access.nodes[reference]
        summed = self._divided_by_extent(node)
        if summed is not None:
            count = self.count(summed)
            number, value = node.operands[0], reference.value
            divided = Op("pointwise", (number.value, count.value), (value,), freeze_attrs({"fn": "div"}), ())
            self.access.nodes[reference] = Node(divided, (number, count))
            self._measure(reference)
            return
        for operand in node.operands:
            if self.depends[operand] and operand not in self.depends[operand]:
                self.count_extents(operand)
        self._measure(reference)

    def _divided_by_extent(self, node: Node) -> Read | None:
        """The sum along the axis that ``node`` divides by the number of its elements."""
        if node.op is None or node.op.name != "pointwise" or node.op.attrs["fn"] not in ("div", "mul"):
            return None
        summed, number = self._behind(node.operands[0]), self._behind(node.operands[1])
        op = self.access.nodes[summed].op
        is_float_sum = op is not None and op.attrs.get("fn") == "sum" and op.output.dtype.is_float
        if summed not in self.depends[summed] or not is_float_sum:
            return None
        extents = product([self.access.axes[a] for a in self.access.nodes[summed].bound])
        by = self.access.nodes[number].op
        return summed if by is not None and _is_number(by, extents, node.op.attrs["fn"] == "mul") else None

    def _behind(self, read: Read) -> Read:
        """What ``read`` is behind views and casts."""
        while passes_on(node := self.access.nodes[read]):
            (read,) = node.operands
        return read

    def _reduction(self, like: Read, operands: tuple[Read, ...], name: str) -> Read:
        """The sum of the product of ``operands`` along the axes of ``like``, before which it is put."""
        node = self.access.nodes[like]
        assert node.op is not None
        read = next((r for r, n in self.access.nodes.items() if _is_sum(n, operands, node.bound)), None)
        if read is None:
            value = self._fresh(f"{like.value.name}_{name}", like.value.type)
            op = replace(node.op, inputs=tuple(o.value for o in operands), outputs=(value,))
            read = self._add(Read(value, like.index, like.guard), replace(node, op=op, operands=operands))
        self._beside.setdefault(like, []).append(read)
        return read

    def _fresh(self, name: str, type: TensorType) -> Value:
        return Value(unique_name(name, {r.value.name for r in self.access.nodes}), type)

    def _rest(self, read: Read, paths: frozenset[Path]) -> Read:
        """``read`` as a product without the factors at ``paths``."""
        if not paths:
            return read
        if () in paths:
            return self._one(read.value.dtype)
        node = self.access.nodes[read]
        assert node.op is not None
        operands = tuple(self._rest(o, _below(paths, n)) for n, o in enumerate(node.operands))
        fn = node.op.attrs.get("fn")
        if passes_on(node) and operands[0].value.dtype is read.value.dtype:
            return operands[0]
        if len(operands) == 1 and self._is_one(operands[0]):
            return self._one(read.value.dtype)
        if fn == "mul" and any(self._is_one(o) for o in operands):
            return next((o for o in operands if not self._is_one(o)), operands[0])
        same = (
            r for r, n in self.access.nodes.items() if n.op and n.op.attrs == node.op.attrs and n.operands == operands
        )
        if (found := next(same, None)) is not None:
            return found
        value = Value(f"{read.value.name}_rest", read.value.type)
        op = replace(node.op, inputs=tuple(o.value for o in operands), outputs=(value,))
        return self._add(Read(value, read.index, read.guard), replace(node, op=op, operands=operands))

    def _is_one(self, read: Read) -> bool:
        return read in self._ones.values()

    def _one(self, dtype: DType) -> Read:
        if dtype not in self._ones:
            value = Value("one", TensorType(dtype, ()))
            op = Op("constant", (), (value,), freeze_attrs({"value": 1.0, "dtype": dtype}), ())
            self._ones[dtype] = self._add(Read(value, ()), Node(op, ()))
        return self._ones[dtype]

    def _add(self, read: Read, node: Node) -> Read:
        self.access.nodes[read] = node
        axes = frozenset().union(*(self.access.free[o] for o in node.operands))
        self.access.free[read] = axes.difference(node.bound)
        self._measure(read)
        return read

    def _measure(self, read: Read) -> None:
        node = self.access.nodes[read]
        needed = (*node.operands, *self.access.index_reads(read).values())
        mine = frozenset().union(*(self.depends[o] for o in needed))
        self.depends[read] = mine | {read} if self.name in node.bound else mine


def _below(paths: frozenset[Path], position: int) -> frozenset[Path]:
    """Of ``paths`` those that go down at ``position``, from there."""
    return frozenset(path[1:] for path in paths if path[0] == position)


def _is_sum(node: Node, operands: tuple[Read, ...], bound: tuple[str, ...]) -> bool:
    if node.op is None or (node.operands, node.bound) != (operands, bound):
        return False
    return node.op.name == "contract" or (node.op.name == "reduce" and node.op.attrs["fn"] == "sum")


def _is_number(op: Op, extents: Size, inverse: bool) -> bool:
    """Whether ``op`` gives the number ``extents``, or one over it."""
    if op.name == "size":
        return not inverse and equal(op.attrs["value"], extents)
    if op.name != "constant" or not isinstance(extents, int) or extents > MOST_COUNTED:
        return False
    value = float(op.attrs["value"])
    return abs(value * extents - 1) < 1e-6 if inverse else value == extents
