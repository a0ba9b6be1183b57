"""Tensors that carry more than their elements: a tangent, or other tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.testing._internal.two_tensor import TwoTensor

import rooftile
from rooftile.errors import RequirementError


def mixed(x: Tensor) -> Tensor:
    return (x.sin() @ x.t()).exp().sum(0)


X = torch.randn(3, 3) * 0.1


@pytest.mark.parametrize("compiled_before", [False, True])
def test_tangents_are_carried_forward(compiled_before: bool) -> None:
    fast = rooftile.compile(mixed)
    if compiled_before:
        fast(X)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(X, torch.ones_like(X))
        got, want = forward_ad.unpack_dual(fast(dual)), forward_ad.unpack_dual(mixed(dual))
        plain = forward_ad.unpack_dual(fast(X))
    assert want.tangent is not None and got.tangent is not None and plain.tangent is None
    torch.testing.assert_close(got.primal, want.primal)
    torch.testing.assert_close(got.tangent, want.tangent)


def test_tangents_of_weights_that_are_trained() -> None:
    layer = nn.Linear(3, 3)
    fast = rooftile.compile(lambda weight: nn.functional.linear(X, weight, layer.bias))
    with forward_ad.dual_level():
        got = forward_ad.unpack_dual(fast(forward_ad.make_dual(layer.weight, torch.ones(3, 3))))
    torch.testing.assert_close(got.tangent, X @ torch.ones(3, 3))


def test_tensors_of_tensors_run_uncompiled_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    fast, given = rooftile.compile(mixed), TwoTensor(X, X + 1)
    with torch.no_grad():
        got: Any = fast(given)
    torch.testing.assert_close((got.a, got.b), (mixed(X), mixed(X + 1)))
    assert "input 'x' is a TwoTensor" in caplog.text
    with pytest.raises(RequirementError, match="is a TwoTensor"):
        rooftile.compile(mixed, options={"require": ["no-extern"]})(given)


def test_weights_of_tensors_run_uncompiled() -> None:
    layer = nn.Linear(3, 3, bias=False)
    layer.weight = nn.Parameter(TwoTensor(X.clone(), X + 1))
    with torch.no_grad():
        got: Any = rooftile.compile(layer)(X)
    torch.testing.assert_close((got.a, got.b), (X @ X.t(), X @ (X + 1).t()))
