"""The text of a product of tiles on matrix units, and of its sum with what was summed before."""

from __future__ import annotations

from rooftile.codegen.expressions import TRITON_TYPE
from rooftile.codegen.space import Space
from rooftile.ir.core import Op
from rooftile.ir.dtypes import F32


def product_text(dot: Op, left: str, right: str, so_far: str, space: Space) -> str:
    """What ``dot`` makes of the tiles ``left`` and ``right``; ``so_far`` is the sum that it is added to, or empty.

    Matrix units cut off bits of the sums that they add to: 128 steps of exact terms leave an error of some 1e-6, fp32
    arithmetic 1e-7. An exact product is therefore added by the latter. Triton would make one op of both, unless it is
    told how many terms may be summed apart.
    """
    acc, precision = dot.attrs["acc"], dot.attrs["precision"]
    apart = precision == "exact"
    arguments = [left, right]
    if so_far and not apart:
        arguments.append(f"acc={so_far}")
    if dot.inputs[0].dtype is F32:
        arguments.append(f'input_precision="{precision or "ieee"}"')
    if acc is not F32:
        arguments.append(f"out_dtype={TRITON_TYPE[acc]}")
    if apart:
        arguments.append(f"max_num_imprecise_acc={space[dot.attrs['axis']].tile}")
    product = f"tl.dot({', '.join(arguments)})"
    return f"{so_far} + {product}" if so_far and apart else product
