"""Tensors without elements: sums of nothing, attention to no keys, results of no rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import rooftile

CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "a sum of no rows": (lambda x: x.sum(0) + 1, ((0, 5),)),
    "a sum of nothing": (lambda x: x.sum() + 1, ((0, 5),)),
    "sums of rows without elements, summed": (lambda x: x.sum(1).sum(), ((3, 0, 5),)),
    "any and all of nothing": (lambda x: ((x > 0).any(0), (x > 0).all(0)), ((0, 5),)),
    "a mean of nothing": (lambda x: x.mean(0), ((0, 5),)),
    "a softmax over nothing": (lambda x: x.softmax(0), ((0, 5),)),
    "a softmax of no rows": (lambda x: x.softmax(-1), ((0, 5),)),
    "a product over nothing, and more": (lambda x, y, z: x @ y + z, ((3, 0), (0, 4), (4,))),
    "attention of no queries": (F.scaled_dot_product_attention, ((1, 2, 0, 8), (1, 2, 3, 8), (1, 2, 3, 8))),
    "attention to no keys": (F.scaled_dot_product_attention, ((1, 2, 3, 8), (1, 2, 0, 8), (1, 2, 0, 8))),
    "no elements, in the middle": (lambda x, y: x * 2 + y, ((3, 0, 5), (5,))),
    "no elements, last": (lambda x: x.exp().transpose(0, 1), ((3, 5, 0),)),
    "an empty part of a concat": (lambda x, y: torch.cat([x, y]) * 2, ((0, 5), (2, 5))),
    "a concat of empty parts": (lambda x, y: torch.cat([x, y, x]) * 2, ((0, 5), (0, 5))),
    "nothing, repeated": (lambda x: x.repeat(2, 1) + 1, ((0, 5),)),
    "rows without elements, repeated": (lambda x: x.repeat(2, 3), ((5, 0),)),
    "a concat of rows without elements": (lambda x, y: torch.cat([x, y], 1) * 2, ((0, 5), (0, 2))),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_is_as_in_eager(name: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    function, shapes = CASES[name]
    tensors = [torch.randn(shape) for shape in shapes]
    fast = rooftile.compile(function, dynamic=dynamic)
    torch.testing.assert_close(fast(*tensors), function(*tensors), equal_nan=True)
