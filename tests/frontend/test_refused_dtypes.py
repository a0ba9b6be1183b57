"""What eager refuses for its dtypes, compiled code refuses with the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rooftile


def wide(*shape: int) -> Tensor:
    return torch.ones(shape)


def half(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float16)


def whole(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.int64)


REFUSED: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "linear": (F.linear, (half(4, 8), wide(3, 8))),
    "linear, its bias": (F.linear, (wide(4, 8), wide(3, 8), half(3))),
    "linear of integers": (F.linear, (whole(4, 8), wide(3, 8))),
    "product": (torch.matmul, (half(4, 8), wide(8, 4))),
    "product and a sum": (torch.addmm, (half(4), wide(4, 8), wide(8, 4))),
    "product with a vector": (torch.mv, (half(4, 8), wide(8))),
    "rows put into others": (lambda x, i, y: x.index_put((i,), y), (wide(2, 4), whole(2), half(2, 4))),
    "softmax": (lambda x: x.softmax(-1), (whole(4, 8),)),
    "log-softmax": (lambda x: x.log_softmax(-1), (whole(4, 8),)),
    "gelu": (F.gelu, (whole(4, 8),)),
    "silu": (F.silu, (whole(4, 8),)),
    "softplus": (F.softplus, (whole(4, 8),)),
    "hardswish": (F.hardswish, (whole(4, 8),)),
    "glu": (F.glu, (whole(4, 8),)),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.5), (whole(4), whole(4))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_refuses(name: str) -> None:
    function, inputs = REFUSED[name]
    with pytest.raises(RuntimeError) as eager:
        function(*inputs)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError) as ours:
        rooftile.compile(function)(*inputs)
    assert str(ours.value).splitlines()[0] == str(eager.value).splitlines()[0]


def test_integers_whose_softmax_is_a_float() -> None:
    compiled = rooftile.compile(lambda x: x.softmax(-1, dtype=torch.float32), options={"require": ["no-extern"]})
    x = torch.arange(12).reshape(3, 4)
    torch.testing.assert_close(compiled(x), x.softmax(-1, dtype=torch.float32))
