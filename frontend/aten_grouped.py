"""Rows: products of groups of rows that end where the data say, each group with a matrix of its own."""

from __future__ import annotations

from typing import Any

import torch

from rooftile.frontend.aten_contractions import batched_product
from rooftile.frontend.importing import Import
from rooftile.frontend.rows import decline_if, row, row_by_name
from rooftile.ir.builder import IDX
from rooftile.ir.core import Value
from rooftile.ir.dtypes import compute_type
from rooftile.ir.polynomial import add


@row(torch.ops.aten._grouped_mm.default)
def grouped_mm(
    im: Import,
    x: Value,
    y: Value,
    offs: Value | None = None,
    bias: Value | None = None,
    out_dtype: Any = None,
) -> Value:
    """``x[t, k] @ y[g, k, n]`` with ``g`` the group of row ``t``, whose ends are ``offs``. torch leaves rows behind the
    last end as they were in memory."""
    decline_if(bias is not None, "a bias")
    if offs is None:
        decline_if(x.type.rank != 3 or y.type.rank != 3, "groups without ends")
        return batched_product(im, x, y, im.dtype)
    decline_if(x.type.rank != 2 or y.type.rank != 3, "groups that are not of rows")
    return _product_of_groups(im, x, y, offs)


@row_by_name("transformers::grouped_mm_fallback")
def grouped_mm_fallback(im: Import, x: Value, y: Value, offs: Value) -> Value:
    """transformers' own, for all dtypes: rows behind the last end are zero."""
    product = _product_of_groups(im, x, y, offs)
    last = im.b.slice(offs, 0, add(offs.shape[0], -1), 1)
    inside = im.b.pointwise("lt", im.arange(x.shape[0], offs.dtype), im.b.broadcast(last, (x.shape[0],)))
    return im.where(im.b.reshape(inside, (x.shape[0], 1)), product, 0, im.dtype)


def _product_of_groups(im: Import, x: Value, y: Value, offs: Value) -> Value:
    """Row by row the product with the matrix of the group; the last group's goes on to the last row."""
    (rows, depth), (groups, _, columns) = x.shape, y.shape
    if groups == 1 or rows == 1:
        decline_if(groups != 1, "one row alone")
        return batched_product(im, x, im.b.reshape(y, y.shape[1:]), im.dtype)
    segments = im.b.segment(im.b.slice(offs, 0, 0, add(groups, -1)), rows)
    axes = [("t", rows), ("k", depth), ("n", columns)]
    t, k, n = im.axes(axes)
    weights = im.b.gather(y, [segments], axes, [[IDX[1], k, n], [t]])
    acc = compute_type(x.dtype)
    return im.b.contract(axes, [x, weights], [[t, k], [t, k, n]], ["t", "n"], acc=acc, dtype=im.dtype)
