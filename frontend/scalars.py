"""Floats that a model computes from run-time sizes, such as ``1 / math.sqrt(x.shape[-1])``."""

from __future__ import annotations

from functools import partial, reduce

import sympy
import torch
from torch.utils._sympy import functions

from rooftile.errors import UnsupportedError
from rooftile.frontend.importing import Import
from rooftile.frontend.sizes import expression_size
from rooftile.ir.core import Value
from rooftile.ir.dtypes import F64

_NAMED = {"OpaqueUnaryFn_sqrt": "sqrt", "OpaqueUnaryFn_exp": "exp", "OpaqueUnaryFn_log": "log"}


def symbolic_float(im: Import, value: torch.SymFloat) -> Value:
    """``value`` as ops on an f64 scalar, which is what Python computes with.

    Raises:
        UnsupportedError: it uses a function without a row.
    """
    return _build(im, value.node.expr, value.node.shape_env)


def _build(im: Import, expr: sympy.Expr, env: object) -> Value:
    if expr.is_number:
        return im.b.constant(float(expr), F64)
    if expr.is_integer and not isinstance(expr, functions.ToFloat):
        return im.b.cast(im.b.size(expression_size(expr, env)), F64)
    operands = [_build(im, e, env) for e in expr.args]
    if isinstance(expr, functions.ToFloat):
        return operands[0]
    if isinstance(expr, (functions.IntTrueDiv, functions.FloatTrueDiv)):
        return im.b.pointwise("div", *operands)
    if isinstance(expr, functions.FloatPow) or expr.is_Pow:
        return im.b.pointwise("pow", *operands)
    if expr.is_Add or expr.is_Mul:
        return reduce(partial(im.b.pointwise, "add" if expr.is_Add else "mul"), operands)
    if type(expr).__name__ in _NAMED:
        return im.b.pointwise(_NAMED[type(expr).__name__], *operands)
    raise UnsupportedError(f"the number {expr}, computed from sizes, uses a function that cannot be compiled")
