"""Contractions as sums of products, and the rule Associate: a sum of products of sums of products is one sum.

``sum_j (sum_d q_id k_jd) v_je  =  sum_jd q_id k_jd v_je``, which may then be summed in another order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from rooftile.ir.core import Op, Value
from rooftile.ir.dtypes import BF16, F32
from rooftile.ir.expr import Size, axis, symbols
from rooftile.ir.substitution import substitute
from rooftile.passes.regions.sizes import likely
from rooftile.passes.regions.view_index import VIEWED_AT
from rooftile.passes.rules.terms import Applied, Varying


@dataclass(frozen=True)
class Factor:
    """``value`` read at ``index``, one expression over the product's axes for each dimension."""

    value: Value
    index: tuple[Size, ...]

    @property
    def axes(self) -> frozenset[str]:
        """The axes that it varies over."""
        return frozenset(s.name for e in self.index for s in symbols(e) if s.extent is not None)


@dataclass(frozen=True)
class Product:
    """The product of ``factors`` over ``axes``, summed over those that are not in ``out``."""

    axes: Mapping[str, Size]
    factors: tuple[Factor, ...]
    out: tuple[str, ...]

    def work(self, names: Iterable[str]) -> int:
        """How many positions these axes have, as planned for."""
        return prod(likely(self.axes[a]) for a in set(names))


def product_of(op: Op) -> Product | None:
    """A contraction, or a sum, as a product; None for any other op."""
    if op.name == "contract":
        factors = tuple(Factor(v, m) for v, m in zip(op.inputs, op.attrs["maps"], strict=True))
        return Product(dict(op.attrs["axes"]), factors, op.attrs["out"])
    if op.name != "reduce" or op.attrs["fn"] != "sum":
        return None
    (x,), dims = op.inputs, op.attrs["dims"]
    axes = {f"d{d}": size for d, size in enumerate(x.shape)}
    index = tuple(axis(name, size) for name, size in axes.items())
    return Product(axes, (Factor(x, index),), tuple(f"d{d}" for d in range(len(index)) if d not in dims))


def sum_of_products(op: Op, producers: Mapping[Value, Op]) -> Product | None:
    """A sum over the products of two tensors each of which is repeated along axes of the other, as what it is: a
    product of matrices. None where ``op`` is no such sum, or where roundings of the products to fp16 would be left
    out, which may overflow."""
    outer = product_of(op) if op.name == "reduce" else None
    if outer is None:
        return None
    (read,) = outer.factors
    behind = behind_casts(read.value, read.index, producers)
    mul = producers.get(behind.value) if behind is not None else None
    if behind is None or mul is None or mul.attrs.get("fn") != "mul" or mul.output.dtype not in (F32, BF16):
        return None
    factors = tuple(_behind_expand(v, behind.index, producers) for v in mul.inputs)
    long = {a for a, n in outer.axes.items() if n != 1}
    summed, kept = long.difference(outer.out), long.intersection(outer.out)
    repeated = all(not f.axes.issuperset(kept) and f.axes.issuperset(summed) for f in factors)
    return replace(outer, factors=factors) if repeated else None


def _behind_expand(value: Value, index: tuple[Size, ...], producers: Mapping[Value, Op]) -> Factor:
    op = producers.get(value)
    if op is None or op.name != "expand":
        return Factor(value, tuple(0 if n == 1 else e for e, n in zip(index, value.shape, strict=True)))
    x = op.inputs[0]
    return Factor(x, tuple(0 if n == 1 else index[d] for d, n in zip(op.attrs["dims"], x.shape, strict=True)))


def behind_casts(
    varying: Varying,
    index: tuple[Size, ...],
    producers: Mapping[Value, Op],
    views: Collection[str] = ("permute",),
) -> Factor | None:
    """The value that ``varying``, read at ``index``, shows behind casts between floats and ``views``; None where
    something else stands between."""
    if isinstance(varying, Applied):
        if varying.op.name not in views or len(varying.of) != 1:
            return None
        return behind_casts(varying.of[0], VIEWED_AT[varying.op.name](varying.op, index), producers, views)
    op = producers.get(varying)
    if op is not None and op.name == "cast" and op.inputs[0].dtype.is_float:
        return behind_casts(op.inputs[0], index, producers, views)
    if op is not None and op.name in views:
        return behind_casts(op.inputs[0], VIEWED_AT[op.name](op, index), producers, views)
    return Factor(varying, index)


def associated(outer: Product, position: int, read: Factor, inner: Product) -> Product:
    """``outer`` with the factors of ``inner`` in place of its factor ``position``, which is ``inner`` read as ``read``
    says."""
    axes, values = dict(outer.axes), dict(zip(inner.out, read.index, strict=True))
    for name, size in inner.axes.items():
        if name not in values:
            fresh = next(f"{name}{n or ''}" for n in range(len(axes) + 1) if f"{name}{n or ''}" not in axes)
            axes[fresh], values[name] = size, axis(fresh, size)
    spread = tuple(Factor(f.value, tuple(substitute(e, values) for e in f.index)) for f in inner.factors)
    return Product(axes, (*spread, *outer.factors[:position], *outer.factors[position + 1 :]), outer.out)
