"""Rows: scaled dot product attention, in every form torch has, as what it means: two contractions, masks and a softmax.

No pass knows that these ops came from one call; a tuner may be told, and try the call itself.
"""

from __future__ import annotations

from typing import Any

import torch

from rooftile.frontend.aten_reductions import exponentials, safe_probabilities
from rooftile.frontend.importing import Import
from rooftile.frontend.rows import decline_if, row
from rooftile.ir.core import Value
from rooftile.ir.division import floordiv
from rooftile.ir.dtypes import B1, DType, compute_type
from rooftile.ir.expr import Expr, Size

aten = torch.ops.aten


def _batch_axes(im: Import, q: Value, others: tuple[Value, ...]) -> list[tuple[str, Size]]:
    """An axis per leading dimension, of the size that they broadcast to (grouped heads keep the query's number)."""
    axes: list[tuple[str, Size]] = []
    for d in range(q.type.rank - 2):
        sizes: list[Size] = [q.shape[d], *(x.shape[d] for x in others)]
        axes.append((f"b{d}", next((s for s in sizes if s != 1), 1)))
    return axes


def _batch_map(x: Value, q: Value, names: list[Expr], grouped: bool) -> list[Size]:
    """How ``x`` is read over the batch axes: size 1 broadcasts; with grouped heads, ``h`` reads ``h // group``."""
    read: list[Size] = []
    for d, name in enumerate(names):
        if grouped and d == len(names) - 1 and x.shape[d] != q.shape[d]:
            read.append(floordiv(name, floordiv(q.shape[d], x.shape[d])))
        else:
            read.append(0 if x.shape[d] == 1 else name)
    return read


def _product(
    im: Import, x: Value, y: Value, q: Value, kind: str, batch: list[tuple[str, Size]], grouped: bool, dtype: DType
) -> Value:
    """``[..ik] . [..jk] -> [..ij]`` for "scores", ``[..ik] . [..kj] -> [..ij]`` for "context"."""
    last = y.shape[-2] if kind == "scores" else y.shape[-1]
    axes = [*batch, ("i", x.shape[-2]), ("j", last), ("k", x.shape[-1])]
    *names, i, j, k = im.axes(axes)
    maps = [
        [*_batch_map(x, q, names, False), i, k],
        [*_batch_map(y, q, names, grouped), *((j, k) if kind == "scores" else (k, j))],
    ]
    out = [name for name, _ in axes[:-1]]
    return im.b.contract(axes, [x, y], maps, out, acc=compute_type(x.dtype), dtype=dtype)


def attention(
    im: Import,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None,
    is_causal: bool,
    scale: float | Value | None,
    grouped: bool,
) -> tuple[Value, Value]:
    """(context ``[.., i, e]`` in the dtype of ``q``, scores ``[.., i, j]`` in fp32 at least, scaled and masked)."""
    decline_if(not q.type.rank == k.type.rank == v.type.rank, "operands of different rank")
    wide, batch = compute_type(q.dtype), _batch_axes(im, q, (k, v))
    scores = _product(im, q, k, q, "scores", batch, grouped, wide)
    scores = im.b.pointwise("mul", scores, _scale(im, q, scale, wide))
    scores = _masked(im, scores, mask, is_causal)
    if mask is None:
        _, powers, total = exponentials(im, scores, scores.type.rank - 1)
        probabilities = im.b.pointwise("div", powers, total)
    else:
        probabilities = safe_probabilities(im, scores, scores.type.rank - 1)
    weights = im.b.cast(probabilities, q.dtype)
    return _product(im, weights, v, q, "context", batch, grouped, q.dtype), scores


def _scale(im: Import, q: Value, scale: float | Value | None, dtype: DType) -> Value:
    if scale is not None:
        return im.operand(scale, dtype)
    width = q.shape[-1]
    if isinstance(width, int):
        return im.scalar(width**-0.5 if width else 1.0, dtype)
    return im.b.pointwise("rsqrt", im.scalar(width, dtype))


def _masked(im: Import, scores: Value, mask: Value | None, is_causal: bool) -> Value:
    """A boolean mask keeps where it is true; any other is added; causal keeps ``j <= i``."""
    if is_causal:
        rows, columns = (im.index_along(scores.shape[-2:], d) for d in (0, 1))
        scores = im.where(im.b.pointwise("ge", rows, columns), scores, float("-inf"), scores.dtype)
    if mask is None:
        return scores
    if mask.dtype is B1:
        return im.where(mask, scores, float("-inf"), scores.dtype)
    return im.b.pointwise("add", scores, im.b.cast(mask, scores.dtype))


@row(aten.scaled_dot_product_attention.default, noted=True)
def sdpa(
    im: Import,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    decline_if(dropout_p > 0, "dropout of attention weights")
    return attention(im, query, key, value, attn_mask, is_causal, scale, enable_gqa)[0]


def _log_sum_exp(im: Import, scores: Value) -> Value:
    top, _, total = exponentials(im, scores, scores.type.rank - 1)
    return im.b.reshape(im.b.pointwise("add", top, im.b.pointwise("log", total)), scores.shape[:-1])


@row(aten._scaled_dot_product_flash_attention_for_cpu.default)
def flash_for_cpu(
    im: Import,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> dict[int, Value]:
    decline_if(dropout_p > 0, "dropout of attention weights")
    return {0: attention(im, query, key, value, attn_mask, is_causal, scale, False)[0]}


@row(aten._scaled_dot_product_flash_attention.default)
def flash(
    im: Import,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> dict[int, Value]:
    decline_if(dropout_p > 0 or return_debug_mask, "dropout of attention weights")
    context, scores = attention(im, query, key, value, None, is_causal, scale, False)
    return {0: context, 1: _log_sum_exp(im, scores)}


@row(
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
)
def with_bias(
    im: Import,
    query: Value,
    key: Value,
    value: Value,
    attn_bias: Value | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> dict[int, Value]:
    decline_if(dropout_p > 0 or return_debug_mask, "dropout of attention weights")
    return {0: attention(im, query, key, value, attn_bias, is_causal, scale, False)[0]}


@row(aten._scaled_dot_product_attention_math.default, aten._scaled_dot_product_attention_math_for_mps.default)
def math(
    im: Import,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    dropout_mask: Any = None,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[int, Value]:
    decline_if(dropout_p > 0 or dropout_mask is not None, "dropout of attention weights")
    return {0: attention(im, query, key, value, attn_mask, is_causal, scale, enable_gqa)[0]}
