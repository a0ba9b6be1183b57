"""Building graphs op by op, with types inferred and operands broadcast explicitly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rooftile.ir.core import UNKNOWN, Graph, Loc, Op, TensorType, Value, freeze_attrs
from rooftile.ir.dtypes import F32, I64, DType, compute_type
from rooftile.ir.expr import Expr, Size, Symbol, axis, of
from rooftile.ir.graph_ops import infer_graph_op
from rooftile.ir.optable import InferenceError
from rooftile.ir.ranges import equal, equal_shapes
from rooftile.ir.tile_ops import infer_tile_op

Infer = Callable[[str, Sequence[TensorType], Mapping[str, Any]], tuple[TensorType, ...]]
IDX = [of(Symbol(f"idx{n}")) for n in range(9)]  # IDX[n]: the value of a gather's operand n, inside its maps


class Builder:
    """Collects ops in order. Names are made unique; ``loc`` is attached to every op made under ``at``."""

    def __init__(self, name: str, infer: Infer) -> None:
        self.name = name
        self._infer = infer
        self._names: set[str] = set()
        self._next: dict[str, int] = {}
        self._loc = UNKNOWN
        self.inputs: list[Value] = []
        self.ops: list[Op] = []

    @contextmanager
    def at(self, loc: Loc) -> Any:
        """Ops made inside the ``with`` block get this location."""
        before, self._loc = self._loc, loc
        try:
            yield self
        finally:
            self._loc = before

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet, starting from ``wanted``."""
        if wanted in self._names:
            number = self._next.get(wanted, 1)
            while f"{wanted}_{number}" in self._names:
                number += 1
            self._next[wanted] = number + 1
            wanted = f"{wanted}_{number}"
        self._names.add(wanted)
        return wanted

    def input(self, name: str, type: TensorType) -> Value:
        """A new input of the graph."""
        value = Value(self.fresh(name), type)
        self.inputs.append(value)
        return value

    def op(
        self,
        op: str,
        inputs: Sequence[Value],
        attrs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        loc: Loc | None = None,
    ) -> Value:
        """Append an op with one result and return that.

        Raises:
            InferenceError: the operands or attributes don't fit the op.
        """
        return self.multi(op, inputs, attrs, name=name, loc=loc)[0]

    def multi(
        self,
        op: str,
        inputs: Sequence[Value],
        attrs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        loc: Loc | None = None,
        regions: tuple[Graph, ...] = (),
    ) -> tuple[Value, ...]:
        """Append an op with any number of results and return them."""
        frozen = freeze_attrs(attrs or {})
        types = self._infer(op, [v.type for v in inputs], frozen)
        outputs = tuple(Value(self.fresh(name or self._default_name(op, frozen)), t) for t in types)
        self.ops.append(Op(op, tuple(inputs), outputs, frozen, regions, loc or self._loc))
        return outputs

    @staticmethod
    def _default_name(op: str, attrs: Mapping[str, Any]) -> str:
        return str(attrs["fn"]) if "fn" in attrs else op

    def finish(self, outputs: Sequence[Value], attrs: Mapping[str, Any] | None = None) -> Graph:
        """The graph of all that was built."""
        return Graph(self.name, tuple(self.inputs), tuple(self.ops), tuple(outputs), freeze_attrs(attrs or {}))


class GraphBuilder(Builder):
    """Builds graph-level IR."""

    def __init__(self, name: str = "main") -> None:
        super().__init__(name, infer_graph_op)

    @staticmethod
    def beside(graph: Graph, taken: Iterable[str] = ()) -> GraphBuilder:
        """A builder for a graph that is to take ``graph``'s place: with its name and inputs, and neither its values'
        names nor those that are ``taken`` free."""
        builder = GraphBuilder(graph.name)
        builder.inputs = list(graph.inputs)
        builder._names.update(taken, (value.name for value in graph.values()))
        return builder

    def constant(self, value: bool | int | float, dtype: DType = F32) -> Value:
        """A scalar of shape ``()``."""
        return self.op("constant", (), {"value": value, "dtype": dtype})

    def size(self, value: Size) -> Value:
        """A size as an i64 scalar."""
        return self.op("size", (), {"value": value})

    def number(self, value: Size, dtype: DType = I64) -> Value:
        """A size as a scalar: a constant where it is known."""
        return self.constant(value, dtype) if isinstance(value, int) else self.cast(self.size(value), dtype)

    def pointwise(self, fn: str, *operands: Value, name: str | None = None) -> Value:
        """A scalar function of operands that are broadcast against each other as torch does; dtypes must agree."""
        shape = broadcast_shapes([v.shape for v in operands])
        return self.op("pointwise", [self.broadcast(v, shape) for v in operands], {"fn": fn}, name=name)

    def cast(self, x: Value, dtype: DType) -> Value:
        """``x`` in ``dtype``; ``x`` itself where it already is."""
        return x if x.dtype is dtype else self.op("cast", [x], {"dtype": dtype})

    def broadcast(self, x: Value, shape: Sequence[Size]) -> Value:
        """``x`` expanded to ``shape`` by torch's rule (aligned at the last dimension)."""
        if equal_shapes(x.shape, shape):
            return x
        first = len(shape) - x.type.rank
        return self.expand(x, shape, tuple(range(first, len(shape))))

    def expand(self, x: Value, shape: Sequence[Size], dims: Sequence[int]) -> Value:
        """Broadcast with input dim ``d`` becoming output dim ``dims[d]``."""
        return self.op("expand", [x], {"shape": tuple(shape), "dims": tuple(dims)})

    def reshape(self, x: Value, shape: Sequence[Size]) -> Value:
        """The same elements in another shape (``x`` itself where the shape is the same)."""
        if equal_shapes(x.shape, shape):
            return x
        return self.op("reshape", [x], {"shape": tuple(shape)})

    def permute(self, x: Value, perm: Sequence[int]) -> Value:
        """Dimensions reordered: output dim ``d`` is input dim ``perm[d]``."""
        return x if list(perm) == list(range(x.type.rank)) else self.op("permute", [x], {"perm": tuple(perm)})

    def slice(self, x: Value, dim: int, start: Size, size: Size, step: int = 1) -> Value:
        """``size`` elements along ``dim`` from ``start`` on, ``step`` apart."""
        rank = range(x.type.rank)
        starts: tuple[Size, ...] = tuple(start if d == dim else 0 for d in rank)
        sizes: tuple[Size, ...] = tuple(size if d == dim else x.shape[d] for d in rank)
        return self.op(
            "slice", [x], {"starts": starts, "sizes": sizes, "steps": tuple(step if d == dim else 1 for d in rank)}
        )

    def concat(self, xs: Sequence[Value], dim: int) -> Value:
        """Operands one after another along ``dim``."""
        return xs[0] if len(xs) == 1 else self.op("concat", xs, {"dim": dim})

    def reduce(self, fn: str, x: Value, dims: Sequence[int], *, keepdim: bool = False) -> Value:
        """Combine along ``dims``; they stay as size 1 where ``keepdim``."""
        kept = tuple(1 if d in dims else s for d, s in enumerate(x.shape))
        out = self.op("reduce", [x], {"fn": fn, "dims": tuple(sorted(dims))}) if dims else x
        return self.reshape(out, kept) if keepdim else out

    def contract(
        self,
        axes: Sequence[tuple[str, Size]],
        operands: Sequence[Value],
        maps: Sequence[Sequence[Size]],
        out: Sequence[str],
        *,
        acc: DType = F32,
        dtype: DType | None = None,
    ) -> Value:
        """Sum of products over the axes that ``out`` leaves away; ``maps`` index each operand over the axes."""
        attrs = {
            "axes": tuple(axes),
            "maps": tuple(tuple(m) for m in maps),
            "out": tuple(out),
            "acc": acc,
            "dtype": dtype or operands[0].dtype,
        }
        return self.op("contract", operands, attrs)

    def einsum(self, equation: str, *operands: Value, acc: DType | None = None, dtype: DType | None = None) -> Value:
        """A contraction in einsum's letters, such as ``"bik,bkj->bij"``; a dimension of size 1 broadcasts."""
        left, right = equation.replace(" ", "").split("->")
        terms = left.split(",")
        sizes: dict[str, Size] = {}
        for term, x in zip(terms, operands, strict=True):
            for letter, size in zip(term, x.shape, strict=True):
                if sizes.get(letter, 1) == 1:
                    sizes[letter] = size
        maps = [
            tuple(0 if x.shape[d] == 1 else axis(a, sizes[a]) for d, a in enumerate(term))
            for term, x in zip(terms, operands, strict=True)
        ]
        wide = acc or compute_type(operands[0].dtype)
        return self.contract(tuple(sizes.items()), operands, maps, tuple(right), acc=wide, dtype=dtype)

    def gather(
        self, x: Value, indices: Sequence[Value], axes: Sequence[tuple[str, Size]], maps: Sequence[Sequence[Size]]
    ) -> Value:
        """``out[axes] = x[maps[0]]``, where ``IDX[n]`` in a map stands for ``indices[n - 1]`` at ``maps[n]``."""
        return self.op("gather", (x, *indices), {"axes": tuple(axes), "maps": tuple(tuple(m) for m in maps)})

    def segment(self, ends: Value, size: Size) -> Value:
        """For each of ``size`` positions how many of ``ends``, which never decrease, are at or before it."""
        return self.op("segment", [ends], {"size": size})

    def positions(self, x: Value, size: Size, dim: int) -> Value:
        """``x``, known to hold positions below ``size`` that are all different along ``dim``."""
        return self.op("positions", [x], {"size": size, "dim": dim})

    def scatter(
        self,
        x: Value,
        source: Value,
        indices: Sequence[Value],
        axes: Sequence[tuple[str, Size]],
        maps: Sequence[Sequence[Size]],
    ) -> Value:
        """``x``, but ``out[maps[0]] = source[axes]``, where ``IDX[n]`` in a map stands for ``indices[n - 1]`` at
        ``maps[n]``."""
        place, *read = (tuple(m) for m in maps)
        attrs = {"axes": tuple(axes), "maps": (place, tuple(axis_exprs(axes).values()), *read)}
        return self.op("scatter", (x, source, *indices), attrs)

    def arrange(self, x: Value, index: Value, size: Size) -> Value:
        """``out[index[t]] = x[t]``, of ``size`` rows; those that no index names are undefined."""
        return self.op("arrange", [x, index], {"size": size})

    def region(
        self, body: Graph, inputs: Sequence[Value], attrs: Mapping[str, Any], loc: Loc = UNKNOWN
    ) -> tuple[Value, ...]:
        """An op that runs ``body`` as one kernel."""
        outputs = tuple(Value(self.fresh(v.name), v.type) for v in body.outputs)
        self.ops.append(Op("region", tuple(inputs), outputs, freeze_attrs(attrs), (body,), loc))
        return outputs


class TileBuilder(Builder):
    """Builds tile-level IR; see ``rooftile.ir.tile_ops``."""

    def __init__(self, name: str) -> None:
        super().__init__(name, infer_tile_op)


def broadcast_shapes(shapes: Sequence[Sequence[Size]]) -> tuple[Size, ...]:
    """torch's broadcasting of shapes.

    Raises:
        InferenceError: two sizes are not known to be the same, and neither is 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for d, size in enumerate(shape, start=rank - len(shape)):
            if result[d] == 1:
                result[d] = size
            elif size != 1 and not equal(size, result[d]):
                raise InferenceError(f"shapes {[tuple(s) for s in shapes]} do not broadcast")
    return tuple(result)


def axis_exprs(axes: Sequence[tuple[str, Size]]) -> dict[str, Expr]:
    """Each axis of an op as an index expression."""
    return {name: axis(name, size) for name, size in axes}
