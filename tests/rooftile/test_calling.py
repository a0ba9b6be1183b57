"""Calls that a program does not serve: where a written input lies in another's memory, which is looked at anew whenever
anything has moved, and where an integer is no size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rooftile.backend import Backend
from rooftile.calling import CompiledFunction
from rooftile.config import CompileOptions


def shift(x: Tensor, y: Tensor) -> Tensor:
    """What is written to ``x`` changes ``y`` where that lies there too."""
    x.mul_(2)
    return x + y


def compiled(dynamic: bool) -> tuple[Callable[[Tensor, Tensor], Tensor], Backend]:
    torch._dynamo.reset()
    backend = Backend(CompileOptions())
    return torch.compile(shift, backend=backend, fullgraph=True, dynamic=dynamic), backend


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_overlap_is_seen_wherever_inputs_come_to_lie_in_one_another(dynamic: bool) -> None:
    fast, _ = compiled(dynamic)
    memory, other = torch.arange(24.0), torch.arange(24.0)
    for start, length in ((8, 8), (8, 8), (4, 8), (8, 8), (8, 12), (8, 8)):  # some apart, some one in the other
        got = fast(memory[:length], memory[start : start + length])
        want = shift(other[:length], other[start : start + length])
        assert torch.equal(got, want) and torch.equal(memory, other)


def test_longer_inputs_at_the_same_addresses_may_overlap() -> None:
    fast, _ = compiled(dynamic=True)
    memory = torch.arange(24.0).numpy()
    fast(torch.from_numpy(memory[:6]), torch.from_numpy(memory[6:12]))  # storages of their own, one behind the other
    whole, other = torch.from_numpy(memory), torch.from_numpy(memory.copy())
    got, want = fast(whole[:8], whole[6:14]), shift(other[:8], other[6:14])
    assert torch.equal(got, want) and torch.equal(whole, other)


def test_calls_with_the_same_memory_look_at_storages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, backend = compiled(dynamic=False)
    x, y = torch.ones(8), torch.ones(8)
    before = set(backend.made)
    fast(x, y)
    (function,) = set(backend.made) - before
    assert isinstance(function, CompiledFunction)
    looked: list[int] = []
    storage = Tensor.untyped_storage
    monkeypatch.setattr(Tensor, "untyped_storage", lambda t: looked.append(t.data_ptr()) or storage(t))
    function(x, y)
    assert not looked
    function(x, torch.ones(8))
    assert looked


@pytest.mark.parametrize("first", [3, -3])
def test_an_integer_may_be_negative(first: int) -> None:
    def shifted(x: Tensor, n: int) -> Tensor:
        return x * n + n // 2

    torch._dynamo.reset()
    fast = torch.compile(shifted, backend=Backend(CompileOptions()), fullgraph=True, dynamic=True)
    x = torch.randn(4)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (first, 5, -7, 0, -2):
            assert torch.equal(fast(x, n), shifted(x, n))
