"""Random graphs over the op table, for property tests: `graphs()` makes one, `inputs_for()` tensors for it.

Values stay tame, so that two right ways of computing a graph agree to rounding: magnitudes are bounded, divisors keep
away from 0, and functions that jump (comparisons, casts to integers, argmax) are applied only to values that are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any

import torch
from hypothesis import strategies as st

from rooftile.accuracy import promised, truth
from rooftile.ir.builder import IDX, GraphBuilder, axis_exprs
from rooftile.ir.core import Graph, Loc, TensorType, Value
from rooftile.ir.dtypes import B1, BF16, F16, F32, I32, I64, DType
from rooftile.ir.evaluator import evaluate as evaluate_graph
from rooftile.ir.expr import Size, symbol
from rooftile.ir.polynomial import add, mul
from rooftile.ir.substitution import evaluate

SEQUENCE = symbol("s", lo=2, hi=6)
MOST_ELEMENTS = 1500
LARGEST = 1e3
FLOATS = (F32, F32, F32, BF16, F16)


@dataclass(frozen=True)
class Known:
    """What the generator knows of a value: a bound of its magnitude, and whether all evaluations give the same bits."""

    bound: float
    exact: bool


@st.composite
def graphs(draw: Any, max_ops: int = 12, symbolic: bool = True) -> Graph:
    """A valid graph-level graph with 1 to 3 outputs, up to about ``max_ops`` steps, and sizes from 1 to 9.

    With ``symbolic``, some graphs have dimensions of the run-time size ``s``.
    """
    growth = Growth(draw, symbolic and draw(st.booleans()))
    growth.new_input(F32, [SEQUENCE, growth.one_of([1, 3, 4])] if SEQUENCE in growth.sizes else None)
    for _ in range(draw(st.integers(0, 2))):
        growth.new_input()
    wanted = draw(st.integers(1, max_ops))
    for _ in range(wanted):
        step = draw(st.sampled_from(STEPS))
        with growth.builder.at(draw(st.sampled_from(LOCS))):
            step(growth)
    results = [v for op in growth.builder.ops for v in op.outputs if v.type.rank <= 5]
    if not results:
        results = [growth.unary_float("tanh", growth.new_input(F32))]
    others = draw(st.lists(st.sampled_from(results), max_size=2, unique=True))
    return growth.builder.finish(list(dict.fromkeys([results[-1], *others])))


LOCS = (
    Loc("model.layers.0.mlp", "/home/user/model.py", 12),
    Loc("", "it's a file.py", 7),
    Loc('a "quoted" @module', "", 0),
    Loc(),
)


def inputs_for(graph: Graph, seed: int = 0, bindings: Mapping[str, int] | None = None) -> list[torch.Tensor]:
    """Tensors for the graph's inputs: floats within 2 of 0, integers from -4 to 8; sizes chosen by ``seed``."""
    sizes = dict(bindings or {})
    random = Random(seed)
    for s in graph.size_symbols():
        sizes.setdefault(s.name, s.divisor * random.randint(-(-s.lo // s.divisor), (s.hi or 9) // s.divisor))
    generator = torch.Generator().manual_seed(seed)
    return [_tensor(v.dtype, [evaluate(s, sizes) for s in v.shape], generator) for v in graph.inputs]


def _tensor(dtype: DType, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    if dtype.is_float:
        return torch.randn(shape, generator=generator).clamp(-2, 2).to(dtype.torch)
    if dtype is B1:
        return torch.rand(shape, generator=generator) < 0.5
    return torch.randint(-4, 9, shape, generator=generator).to(dtype.torch)


def check_answers(graph: Graph, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    """Assert that ``outputs``, however they were computed, keep the promise with op-by-op evaluation as eager.

    A few units of the narrowest float are allowed besides: on a handful of elements it is luck which of two roundings
    comes out closer.
    """
    eager = evaluate_graph(graph, inputs)
    units = [torch.finfo(v.dtype.torch).eps for v in graph.values() if v.dtype.is_float]
    for number, (x, y) in enumerate(zip(outputs, eager, strict=True)):
        assert (x.dtype, x.shape) == (y.dtype, y.shape), f"output {number}"
        assert x.dtype.is_floating_point or torch.equal(x, y), f"output {number}"
    for number, accuracy in enumerate(promised(outputs, eager, truth(graph, inputs))):
        good = accuracy.same_nonfinite and accuracy.ours <= accuracy.allowed + 4 * max(units, default=0.0)
        assert good, f"output {number}: {accuracy}"


def numel(shape: Sequence[Size]) -> int:
    """The number of elements where ``s`` is largest."""
    return prod(evaluate(n, {"s": 6}) for n in shape)


class Growth:
    """A graph under construction: draws decisions, and remembers what is known of each value."""

    def __init__(self, draw: Callable[[Any], Any], symbolic: bool) -> None:
        self.draw = draw
        self.sizes: list[Size] = [1, 2, 3, 4, 5, 8, 9, *([SEQUENCE] * 3 if symbolic else [])]
        self.builder = GraphBuilder("random")
        self.known: dict[Value, Known] = {}

    def one_of(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def note(self, value: Value, bound: float, exact: bool) -> Value:
        self.known[value] = Known(bound, exact)
        return value

    def as_known(self, value: Value, *sources: Value, factor: float = 1.0) -> Value:
        """``value`` is as large as the largest source, times ``factor``, and as exact as all of them."""
        known = [self.known[s] for s in sources]
        return self.note(value, factor * max(k.bound for k in known), factor == 1.0 and all(k.exact for k in known))

    def new_input(self, dtype: DType | None = None, shape: Sequence[Size] | None = None) -> Value:
        dtype = dtype or self.one_of([*FLOATS, F32, I64, I32, B1])
        if shape is None:
            shape = [self.one_of(self.sizes) for _ in range(self.integer(0, 3))]
        value = self.builder.input("x", TensorType(dtype, tuple(shape)))
        return self.note(value, 2.0 if dtype.is_float else 8.0, True)

    def pick(self, test: Callable[[Value], bool] = lambda _: True) -> Value | None:
        """A value so far that passes ``test``, most often a late one."""
        fitting = [v for v in self.known if test(v) and numel(v.shape) <= MOST_ELEMENTS]
        return fitting[-1 - min(self.integer(0, 4), len(fitting) - 1)] if fitting else None

    def pick_float(self, bound: float = LARGEST) -> Value:
        found = self.pick(lambda v: v.dtype.is_float and self.known[v].bound <= bound)
        return found if found is not None else self.new_input(self.one_of(FLOATS))

    def pick_int(self) -> Value:
        found = self.pick(lambda v: v.dtype.kind == "int" and self.known[v].bound <= LARGEST)
        return found if found is not None else self.new_input(I64)

    def pick_any(self, rank: int = 0) -> Value:
        found = self.pick(lambda v: rank <= v.type.rank <= 4)
        return found if found is not None else self.new_input(shape=[self.one_of(self.sizes) for _ in range(rank)])

    def like(self, x: Value) -> Value:
        """Another value of ``x``'s dtype that broadcasts with it."""
        found = self.pick(lambda v: v.dtype is x.dtype and v.shape == x.shape and self.known[v].bound <= LARGEST)
        if found is not None and self.integer(0, 2):
            return found
        kept = self.integer(0, x.type.rank)
        return self.new_input(x.dtype, [self.one_of([n, n, 1]) for n in x.shape[x.type.rank - kept :]])

    def constant(self, value: float, dtype: DType) -> Value:
        return self.note(self.builder.constant(value, dtype), abs(value), True)

    def pointwise(self, fn: str, *operands: Value) -> Value:
        return self.builder.pointwise(fn, *operands)

    def unary_float(self, fn: str, x: Value) -> Value:
        """A function that is smooth everywhere; its argument is brought into range first where that is needed."""
        bound, positive, result = SMOOTH[fn]
        if positive:
            x = self.above_one(x)
        elif self.known[x].bound > bound:
            x = self.note(self.pointwise("tanh", x), 1.0, False)
        return self.note(self.pointwise(fn, x), result(self.known[x].bound), fn in ("neg", "abs"))

    def above_one(self, x: Value) -> Value:
        """``abs(x) + 1``."""
        size = self.pointwise("abs", x)
        return self.note(self.pointwise("add", size, self.constant(1.0, x.dtype)), self.known[x].bound + 1, False)


# Smooth functions: the largest argument, whether it must be at least 1, and a bound of the result.
SMOOTH: dict[str, tuple[float, bool, Callable[[float], float]]] = {
    "neg": (LARGEST, False, lambda b: b),
    "abs": (LARGEST, False, lambda b: b),
    "tanh": (LARGEST, False, lambda b: 1.0),
    "sigmoid": (LARGEST, False, lambda b: 1.0),
    "erf": (LARGEST, False, lambda b: 1.0),
    "erfc": (LARGEST, False, lambda b: 2.0),
    "atan": (LARGEST, False, lambda b: 1.6),
    "exp": (3.0, False, lambda b: 21.0),
    "exp2": (3.0, False, lambda b: 8.0),
    "expm1": (3.0, False, lambda b: 20.0),
    "sin": (8.0, False, lambda b: 1.0),
    "cos": (8.0, False, lambda b: 1.0),
    "tan": (1.0, False, lambda b: 1.6),
    "acos": (0.0, False, lambda b: 3.2),
    "log": (LARGEST, True, lambda b: 7.0),
    "log2": (LARGEST, True, lambda b: 10.0),
    "log1p": (LARGEST, True, lambda b: 7.0),
    "sqrt": (LARGEST, True, lambda b: b),
    "rsqrt": (LARGEST, True, lambda b: 1.0),
    "reciprocal": (LARGEST, True, lambda b: 1.0),
}


def step_smooth(g: Growth) -> None:
    fn = g.one_of(sorted(SMOOTH))
    x = g.pick_float()
    if fn == "acos":  # steep at its ends: half of a tanh stays clear of them
        half = g.pointwise("mul", g.pointwise("tanh", x), g.builder.constant(0.5, x.dtype))
        g.note(g.pointwise("acos", half), 3.2, False)
        return
    g.unary_float(fn, x)


def step_arithmetic(g: Growth) -> None:
    x = g.pick_float()
    y = g.like(x)
    fn = g.one_of(["add", "sub", "mul", "div", "maximum", "minimum", "pow"])
    a, b = g.known[x].bound, g.known[y].bound
    if fn == "mul" and a * b > LARGEST:
        fn = "maximum"
    if fn == "pow":
        exponent = g.one_of([2.0, 0.5, -0.5, 1.0, 3.0]) if a <= 9 else 0.5
        g.note(g.pointwise("pow", g.above_one(x), g.constant(exponent, x.dtype)), (a + 1) ** max(exponent, 0), False)
        return
    if fn == "div":
        y = g.above_one(y)
    bound = {"add": a + b, "sub": a + b, "mul": a * b, "div": a}.get(fn, max(a, b))
    exact = fn in ("maximum", "minimum") and g.known[x].exact and g.known[y].exact
    g.note(g.pointwise(fn, x, y), bound, exact)


def step_integer(g: Growth) -> None:
    x = g.pick_int()
    fn = g.one_of(["add", "sub", "mul", "maximum", "minimum", "floordiv", "mod", "and", "or", "xor", "neg", "abs"])
    if fn in ("neg", "abs"):
        g.note(g.pointwise(fn, x), g.known[x].bound, True)
    elif fn in ("floordiv", "mod", "mul"):
        g.note(g.pointwise(fn, x, g.constant(g.integer(1, 5), x.dtype)), g.known[x].bound * 5 + 5, True)
    else:
        y = g.like(x)
        g.note(g.pointwise(fn, x, y), 2 * (g.known[x].bound + g.known[y].bound) + 1, True)


def exact_bool(g: Growth, shape: Sequence[Size]) -> Value:
    """A condition of ``shape``: a comparison of an index or of an input, or an input itself."""
    kind = g.integer(0, 2)
    if kind == 0 or not shape:
        return g.new_input(B1, shape)
    if kind == 1:
        x = g.new_input(F32, shape)
        return g.note(g.pointwise(g.one_of(["lt", "ge", "ne"]), x, g.constant(0.5, F32)), 1.0, True)
    dim = g.integer(0, len(shape) - 1)
    position = g.builder.op("iota", (), {"size": shape[dim], "dtype": I64})
    compared = g.pointwise(g.one_of(["lt", "le", "gt", "eq"]), position, g.constant(g.integer(0, 4), I64))
    return g.note(g.builder.expand(compared, shape, (dim,)), 1.0, True)


def step_where(g: Growth) -> None:
    x = g.pick_any()
    y = g.builder.broadcast(g.like(x), x.shape) if g.known[x].bound <= LARGEST else x
    condition = exact_bool(g, x.shape)
    g.known.setdefault(y, Known(LARGEST, False))
    g.as_known(g.pointwise("where", condition, x, y), x, y)


def step_bool(g: Growth) -> None:
    x = g.pick(lambda v: v.dtype is B1)
    x = x if x is not None else g.new_input(B1)
    fn = g.one_of(["and", "or", "xor", "not"])
    g.note(g.pointwise(fn, x) if fn == "not" else g.pointwise(fn, x, exact_bool(g, x.shape)), 1.0, True)


def step_compare(g: Growth) -> None:
    x = g.pick(lambda v: g.known[v].exact and v.dtype is not B1)
    x = x if x is not None else g.new_input(I64)
    y = g.constant(g.integer(-1, 3), x.dtype)
    g.note(g.pointwise(g.one_of(["eq", "ne", "lt", "le", "gt", "ge"]), x, y), 1.0, True)


def step_cast(g: Growth) -> None:
    x = g.pick_any()
    targets = [F32, BF16, F16] if g.known[x].bound <= 6e4 else [F32]
    if g.known[x].exact and g.known[x].bound <= 100:
        targets = [*targets, I64, I32, B1]
    dtype = g.one_of(targets)
    if dtype is not x.dtype:
        g.note(g.builder.cast(x, dtype), g.known[x].bound + 1, g.known[x].exact)


def step_reduce(g: Growth) -> None:
    x = g.pick_any(rank=1)
    dims = sorted(g.draw(st.sets(st.integers(0, x.type.rank - 1), min_size=1, max_size=x.type.rank)))
    count = numel([x.shape[d] for d in dims])
    bound, exact = g.known[x].bound, g.known[x].exact
    keepdim = bool(g.integer(0, 1))
    if x.dtype is B1:
        g.note(g.builder.reduce(g.one_of(["any", "all"]), x, dims, keepdim=keepdim), 1.0, True)
        return
    fn = g.one_of(["sum", "max", "min", "argmax" if exact else "sum", "argmin" if exact else "max"])
    if fn.startswith("arg"):
        g.note(g.builder.reduce(fn, x, dims[:1], keepdim=keepdim), 9.0, True)
        return
    if fn == "sum" and bound * count > LARGEST:
        fn = "max"
    total = bound * count if fn == "sum" else bound
    g.note(g.builder.reduce(fn, x, dims, keepdim=keepdim), total, exact and (fn != "sum" or not x.dtype.is_float))


def step_prod(g: Growth) -> None:
    x = g.pick_float()
    if not x.type.rank:
        return
    near_one = g.pointwise("sigmoid", x)
    g.note(g.builder.reduce("prod", near_one, [g.integer(0, x.type.rank - 1)]), 1.0, False)


def step_scan(g: Growth) -> None:
    x = g.pick(lambda v: 1 <= v.type.rank <= 4 and v.dtype is not B1 and g.known[v].bound <= LARGEST / 10)
    if x is None:
        return
    fn = g.one_of(["sum", "sum", "max", "min"])
    value = g.builder.op("scan", [x], {"fn": fn, "dim": g.integer(0, x.type.rank - 1)})
    g.as_known(value, x, factor=9.0 if fn == "sum" else 1.0)


def step_permute(g: Growth) -> None:
    x = g.pick_any(rank=1)
    perm = g.draw(st.permutations(range(x.type.rank)))
    g.as_known(g.builder.permute(x, perm), x)


def step_expand(g: Growth) -> None:
    x = g.pick_any()
    shape = [g.one_of([2, 3]) if n == 1 and g.integer(0, 1) else n for n in x.shape]
    dims = list(range(len(shape)))
    if len(shape) < 4:
        at = g.integer(0, len(shape))
        shape.insert(at, g.one_of(g.sizes))
        dims = [d + (d >= at) for d in dims]
    if numel(shape) <= MOST_ELEMENTS:
        g.as_known(g.builder.expand(x, shape, dims), x)


def step_reshape(g: Growth) -> None:
    x = g.pick_any(rank=1)
    shape: list[Size] = list(x.shape)
    kind = g.integer(0, 3)
    d = g.integer(0, len(shape) - 1)
    size = shape[d]
    if kind == 0 and len(shape) > 1:  # join two dimensions
        d = min(d, len(shape) - 2)
        shape[d : d + 2] = [mul(shape[d], shape[d + 1])]
    elif kind == 1 and isinstance(size, int) and size in (4, 6, 8, 9):  # split one
        first = {4: 2, 6: 3, 8: 2, 9: 3}[size]
        shape[d : d + 1] = [first, size // first]
    elif kind == 2:
        shape.insert(d, 1)
    elif all(isinstance(n, int) for n in shape):  # everything in one
        shape = [prod(int(str(n)) for n in shape)]
    g.as_known(g.builder.reshape(x, shape), x)


def step_slice(g: Growth) -> None:
    x = g.pick_any(rank=1)
    dim = g.integer(0, x.type.rank - 1)
    size = x.shape[dim]
    if not isinstance(size, int):
        if size == SEQUENCE:
            g.as_known(g.builder.slice(x, dim, g.integer(0, 1), add(size, -1)), x)
        return
    start = g.integer(0, size - 1)
    step = g.one_of([1, 1, 2, -1])
    most = start + 1 if step < 0 else (size - start + step - 1) // step
    g.as_known(g.builder.slice(x, dim, start, g.integer(1, most), step), x)


def step_concat(g: Growth) -> None:
    x = g.pick_any(rank=1)
    dim = g.integer(0, x.type.rank - 1)
    other = g.new_input(x.dtype, [g.one_of([1, 2, 3]) if d == dim else n for d, n in enumerate(x.shape)])
    pieces = g.one_of([[x, other], [other, x], [x, x], [x, other, x]])
    g.as_known(g.builder.concat(pieces, dim), *pieces)


def step_pad(g: Growth) -> None:
    x = g.pick_any(rank=1)
    low, high = (tuple(g.integer(0, 2) for _ in x.shape) for _ in range(2))
    value = bool(g.integer(0, 1)) if x.dtype is B1 else g.one_of([0, 1, -2])
    attrs = {"low": low, "high": high, "value": float(value) if x.dtype.is_float else value}
    g.note(g.builder.op("pad", [x], attrs), max(g.known[x].bound, 2.0), g.known[x].exact)


def step_gather(g: Growth) -> None:
    """Rows of ``x`` at computed positions: an embedding look-up."""
    x = g.pick_any(rank=1)
    index = g.pick_int()
    if index.type.rank + x.type.rank - 1 > 4 or index.dtype is not I64:
        index = g.new_input(I64, [g.one_of(g.sizes)])
    inside = g.pointwise("mod", index, g.builder.size(x.shape[0]))  # a floor modulus is never negative
    axes = [(f"p{d}", n) for d, n in enumerate(index.shape)] + [(f"r{d}", n) for d, n in enumerate(x.shape[1:])]
    if numel([n for _, n in axes]) > MOST_ELEMENTS:
        return
    at = list(axis_exprs(axes).values())
    split = index.type.rank
    g.as_known(g.builder.gather(x, [inside], axes, [(IDX[1], *at[split:]), at[:split]]), x)


def step_window(g: Growth) -> None:
    """Overlapping windows, or the diagonal of a square: one dimension read through two axes, or two through one."""
    x = g.pick(lambda v: 1 <= v.type.rank <= 3 and isinstance(v.shape[0], int))
    if x is None:
        return
    size = int(str(x.shape[0]))
    rest = [(f"r{d}", n) for d, n in enumerate(x.shape[1:])]
    if x.type.rank > 1 and x.shape[0] == x.shape[1]:
        axes = [("i", x.shape[0]), *rest[1:]]
        at = axis_exprs(axes)
        maps = [(at["i"], at["i"], *(at[name] for name, _ in rest[1:]))]
    else:
        width = g.integer(1, min(size, 3))
        axes = [("i", size - width + 1), ("k", width), *rest]
        at = axis_exprs(axes)
        maps = [(add(at["i"], at["k"]), *(at[name] for name, _ in rest))]
    g.as_known(g.builder.gather(x, [], axes, maps), x)


def step_matmul(g: Growth) -> None:
    """A linear layer, or a product of ``x`` with itself or another value over batch dimensions."""
    x = g.pick(lambda v: v.dtype.is_float and 1 <= v.type.rank <= 3 and g.known[v].bound <= 40)
    x = x if x is not None else g.new_input(F32, [g.one_of(g.sizes), g.one_of(g.sizes)])
    inner = numel(x.shape[-1:])
    letters = "bij"[3 - (x.type.rank - 1) :] if x.type.rank > 1 else ""
    if g.integer(0, 2) or x.type.rank == 1:
        w = g.new_input(x.dtype, [g.one_of([1, 3, 4, 8]), x.shape[-1]])
        value = g.builder.einsum(f"{letters}k,nk->{letters}n", x, w)
        g.note(value, g.known[x].bound * 2 * inner, False)
        return
    left = letters + "k"
    right = left.replace(letters[-1], "n")
    value = g.builder.einsum(f"{left},{right}->{letters}n", x, x, dtype=g.one_of([x.dtype, F32]))
    g.note(value, g.known[x].bound ** 2 * inner, False)


def step_convolve(g: Growth) -> None:
    """A contraction over the access map ``i + k``."""
    x = g.pick(lambda v: v.dtype.is_float and v.type.rank == 2 and g.known[v].bound <= 40 and v.shape[1] in (4, 5, 8))
    x = x if x is not None else g.new_input(g.one_of(FLOATS), [g.one_of([1, 2, 3]), 8])
    width, length = g.integer(1, 3), int(str(x.shape[1]))
    w = g.new_input(x.dtype, [4, x.shape[0], width])
    axes = [("o", 4), ("i", length - width + 1), ("c", x.shape[0]), ("k", width)]
    at = axis_exprs(axes)
    maps = [(at["c"], add(at["i"], at["k"])), (at["o"], at["c"], at["k"])]
    value = g.builder.contract(axes, [x, w], maps, ["o", "i"])
    g.note(value, g.known[x].bound * 2 * numel(x.shape[:1]) * width, False)


def step_iota(g: Growth) -> None:
    x = g.pick_any(rank=1)
    dim = g.integer(0, x.type.rank - 1)
    position = g.builder.op("iota", (), {"size": x.shape[dim], "dtype": g.one_of([I64, F32])})
    g.note(g.builder.expand(position, x.shape, (dim,)), 60.0, True)


# Each step as often as it should occur.
STEPS: tuple[Callable[[Growth], None], ...] = (
    *(step_arithmetic, step_arithmetic, step_arithmetic, step_smooth, step_smooth, step_smooth),
    *(step_reduce, step_reduce, step_reduce, step_matmul, step_matmul, step_convolve, step_prod, step_scan),
    *(step_permute, step_permute, step_expand, step_reshape, step_reshape, step_slice, step_concat, step_pad),
    *(step_gather, step_window, step_iota, step_cast, step_cast, step_where, step_compare, step_bool, step_integer),
)
