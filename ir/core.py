"""The IR's five classes: ``TensorType``, ``Value``, ``Loc``, ``Op`` and ``Graph``.

One structure serves both levels. A graph is a list of ops in an order in which every value is defined before it is used
(SSA). Values are compared by identity; two graphs are compared by their canonical text (``rooftile.ir.canonical``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias, Union

from rooftile.ir.dtypes import DType
from rooftile.ir.expr import Expr, Size, Symbol, size_symbols
from rooftile.ir.polynomial import product

# What an attribute may hold. Mappings of attributes are typed ``Any``: each op's row says what its attributes are.
Attr: TypeAlias = Union[bool, int, float, str, DType, Expr, tuple["Attr", ...], None]  # noqa: UP007 (recursive)


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a value.

    ``axes`` names the dimensions: at graph level for the reader only (the pass ``axes`` fills it in); at tile level the
    names are what aligns tiles with one another. ``strides`` (in elements) is given for a buffer that is not contiguous
    in row-major order.
    """

    dtype: DType
    shape: tuple[Size, ...]
    axes: tuple[str, ...] | None = None
    strides: tuple[Size, ...] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Size:
        """The number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> Size:
        """The size of a dense buffer of this type, in bytes."""
        return self.numel * self.dtype.bytes


@dataclass(frozen=True)
class Loc:
    """Where an op came from: the module's path in the model, and the user's source file and line (0: unknown)."""

    module: str = ""
    file: str = ""
    line: int = 0

    @property
    def source(self) -> str:
        """``file:line``, or an empty string where it isn't known."""
        return f"{self.file}:{self.line}" if self.file else ""


UNKNOWN = Loc()


@dataclass(frozen=True, eq=False)
class Value:
    """The result of an op, or a graph's input. ``name`` is unique in its graph and does not carry the printed ``%``."""

    name: str
    type: TensorType

    def __repr__(self) -> str:
        return f"%{self.name}"

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape


def freeze_attrs(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A read-only copy of ``attrs``, in the order given."""
    return MappingProxyType(dict(attrs))


@dataclass(frozen=True, eq=False)
class Op:
    """One operation: ``outputs = name(inputs) {attrs} (regions)``. What it means is its row in an op table."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Any] = field(default_factory=lambda: freeze_attrs({}))
    regions: tuple[Graph, ...] = ()
    loc: Loc = UNKNOWN

    def __repr__(self) -> str:
        return f"{', '.join(map(repr, self.outputs))} = {self.name}({', '.join(map(repr, self.inputs))})"

    @property
    def output(self) -> Value:
        """The single result.

        Raises:
            ValueError: the op has another number of results.
        """
        (value,) = self.outputs
        return value

    @cached_property
    def sizes(self) -> frozenset[Symbol]:
        """The run-time sizes and index values that its results, attributes and regions mention."""
        of_regions = (g.sizes for g in self.regions)
        return _sizes_of(self.outputs, self.attrs).union(*of_regions)


@dataclass(frozen=True, eq=False)
class Graph:
    """A function over tensors: ``ops`` compute ``outputs`` from ``inputs``; ``attrs`` is about the whole."""

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Any] = field(default_factory=lambda: freeze_attrs({}))

    def __repr__(self) -> str:
        return f"graph @{self.name} of {len(self.ops)} ops"

    def producers(self) -> dict[Value, Op]:
        """Which op makes each value (graph inputs are absent)."""
        return {value: op for op in self.ops for value in op.outputs}

    def users(self) -> dict[Value, list[Op]]:
        """Which ops read each value, in order; a value that nothing reads is absent."""
        found: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs):
                found.setdefault(value, []).append(op)
        return found

    def values(self) -> Iterator[Value]:
        """Every value: inputs first, then results in op order."""
        yield from self.inputs
        for op in self.ops:
            yield from op.outputs

    def size_symbols(self) -> tuple[Symbol, ...]:
        """The run-time sizes that shapes and attributes mention, those in regions included, by name."""
        return tuple(sorted((s for s in self.sizes if not is_index_value(s.name)), key=lambda s: s.name))

    @cached_property
    def sizes(self) -> frozenset[Symbol]:
        """The run-time sizes and index values that it mentions."""
        return _sizes_of(self.inputs, self.attrs).union(*(op.sizes for op in self.ops))


def _sizes_of(values: tuple[Value, ...], attrs: Mapping[str, Any]) -> frozenset[Symbol]:
    mentioned = [*((v.shape, v.type.strides) for v in values), *attrs.values()]
    return frozenset[Symbol]().union(*map(size_symbols, dict.fromkeys(e for attr in mentioned for e in exprs(attr))))


def exprs(attr: Attr) -> Iterator[Expr]:
    """Every expression in an attribute, at any depth."""
    if isinstance(attr, Expr):
        yield attr
    elif isinstance(attr, tuple):
        for item in attr:
            yield from exprs(item)


def is_index_value(name: str) -> bool:
    """Whether a symbol ``idx1``, ``idx2``, ... stands for the value of an index operand rather than for a size."""
    return name.startswith("idx") and name[3:].isdigit()


def unique_name(wanted: str, taken: Iterable[str]) -> str:
    """``wanted``, or ``wanted_1``, ``wanted_2``, ... : the first that is not in ``taken``."""
    known = taken if isinstance(taken, (set, frozenset, dict)) else set(taken)
    if wanted not in known:
        return wanted
    number = 1
    while f"{wanted}_{number}" in known:
        number += 1
    return f"{wanted}_{number}"
