"""Compiled modules that are copied, pickled, compiled once more or share what was compiled: each is told of changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.driver import collecting
from rooftile.errors import RequirementError
from rooftile.runtime.packed import Packed


class Weighed(nn.Module):
    """``x`` times what is computed from two weights, which is kept between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.first @ self.second).tanh()


class Breaking(nn.Module):
    """Dynamo makes two graphs of it."""

    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x + 1


X = torch.randn(3, 8)

COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda fast: pickle.loads(pickle.dumps(fast))]
copied = pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def close(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def shifted(x: Tensor) -> Tensor:
    return x.exp() + 1


@copied
def test_a_copy_keeps_nothing_in_training(copied: Callable[[Any], Any]) -> None:
    other = copied(rooftile.compile(Weighed().train()))
    with torch.no_grad():
        for _ in range(2):
            close(other(X), other._orig_mod(X))
            other._orig_mod.first.data.mul_(2)  # no version counts this
        close(other(X), other._orig_mod(X))


@copied
def test_a_copy_is_invalidated(copied: Callable[[Any], Any]) -> None:
    other = copied(rooftile.compile(Weighed().eval()))
    with torch.no_grad():
        close(other(X), other._orig_mod(X))
        other._orig_mod.first.data.mul_(2)
        other.invalidate()
        close(other(X), other._orig_mod(X))


@copied
def test_a_copy_has_the_requirements_and_plain_errors(copied: Callable[[Any], Any]) -> None:
    other = copied(rooftile.compile(Breaking(), options={"require": ["no-breaks"]}))
    with pytest.raises(RequirementError, match="no-breaks"):
        other(X)


@pytest.mark.parametrize("first", [rooftile.compile, lambda model: torch.compile(model, backend="eager")])
def test_a_compiled_module_is_compiled_anew(first: Callable[[Any], Any]) -> None:
    model = Weighed().eval()
    fast = rooftile.compile(first(model))
    with torch.no_grad(), collecting() as compilations:
        close(fast(X), model(X))
    assert len(compilations) == 1
    assert fast.state_dict().keys() == {"_orig_mod.first", "_orig_mod.second"}


@pytest.mark.parametrize("first", [rooftile.compile, lambda model: torch.compile(model, backend="eager")])
def test_a_compiled_function_is_compiled_anew(first: Callable[[Any], Any]) -> None:
    fast = rooftile.compile(first(shifted))
    with collecting() as compilations:
        close(fast(X), shifted(X))
    assert len(compilations) == 1


def test_a_method_stays_one() -> None:
    class Holder:
        factor = 2

        @rooftile.compile
        def times(self, x: Tensor) -> Tensor:
            return x * self.factor

    close(rooftile.compile(Holder().times)(X), X * 2)  # type: ignore[call-arg, arg-type, type-var]


@pytest.mark.parametrize("train", [False, True])
def test_modules_that_share_what_was_compiled_are_each_told_of_changes(train: bool) -> None:
    models = [Weighed().train(train) for _ in range(2)]
    with torch.no_grad(), collecting() as compilations:
        for model in models:
            fast: Any = rooftile.compile(model)
            close(fast(X), model(X))
            model.first.data.mul_(2)  # no version counts this
            if not train:
                fast.invalidate()
            close(fast(X), model(X))
    assert len(compilations) == 1


def test_a_module_in_training_leaves_what_others_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    compute = Packed._compute
    monkeypatch.setattr(Packed, "_compute", lambda *a: made.append(1) or compute(*a))
    teacher, student = Weighed().eval(), Weighed().train()
    fast, learning = rooftile.compile(teacher), rooftile.compile(student)
    with torch.no_grad():
        for _ in range(3):
            close(fast(X), teacher(X))
            close(learning(X), student(X))
    assert len(made) == 1 + 3
