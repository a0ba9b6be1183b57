"""What users of ``torch.compile`` do with a module besides calling it, before and after it has been compiled."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rooftile
from rooftile.driver import collecting


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    """Two layers that share a weight, a buffer that counts calls, and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.first(x).relu()
        with torch.no_grad():
            self.mean.lerp_(hidden.to(self.mean.dtype).mean(0), 0.1)
        return self.second(hidden)


def close(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def pair() -> tuple[Net, Any, Net, Tensor]:
    """(a module, itself compiled, an equal one for eager, an input)."""
    torch._dynamo.reset()  # nothing of other tests decides whether a size may change
    module = Net()
    return module, rooftile.compile(module), copy.deepcopy(module), torch.randn(5, 8)


def test_tied_weights_stay_tied() -> None:
    module, fast, eager, x = pair()
    fast(x).sum().backward()
    eager(x).sum().backward()
    close(module.first.weight.grad, eager.first.weight.grad)
    with torch.no_grad():
        module.second.weight.mul_(2)
        eager.second.weight.mul_(2)
    close(fast(x), eager(x))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_buffers_are_updated_in_forward(context: Any) -> None:
    module, fast, eager, x = pair()
    with context():
        for _ in range(3):
            close(fast(x), eager(x))
    assert module.calls == 3
    close(module.mean, eager.mean)


def test_one_module_in_every_gradient_mode() -> None:
    module, fast, eager, x = pair()
    for context in (torch.inference_mode, torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            got, want = fast(x), eager(x)
        close(got, want)
        assert (got.requires_grad, got.is_inference()) == (want.requires_grad, want.is_inference())
    close(module.mean, eager.mean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_dtype_after_compiling(dtype: torch.dtype) -> None:
    module, fast, eager, x = pair()
    with torch.no_grad():
        close(fast(x), eager(x))
        fast.to(dtype)
        eager.to(dtype)
        got, want = fast(x.to(dtype)), eager(x.to(dtype))
    assert got.dtype is dtype and module.first.weight.dtype is dtype
    torch.testing.assert_close(got, want)


def test_a_state_that_is_loaded_after_compiling() -> None:
    module, fast, _, x = pair()
    other = Net()
    with torch.no_grad(), collecting() as compilations:
        fast(x)
        module.load_state_dict(other.state_dict())
        close(fast(x), other(x))
        fast.load_state_dict({f"_orig_mod.{name}": value * 0.5 for name, value in other.state_dict().items()})
        other.load_state_dict({name: value * 0.5 for name, value in other.state_dict().items()})
        close(fast(x), other(x))
    assert len(compilations) == 1  # weights are read at every call, where they are


def test_a_weight_that_is_exchanged() -> None:
    module, fast, eager, x = pair()
    with torch.no_grad():
        fast(x), eager(x)
        module.first.bias = nn.Parameter(torch.ones(8))
        eager.first.bias = nn.Parameter(torch.ones(8))
        close(fast(x), eager(x))


def test_a_copy_of_a_compiled_module_is_independent() -> None:
    _, fast, eager, x = pair()
    with torch.no_grad():
        close(fast(x), eager(x))
        other = copy.deepcopy(fast)
        for parameter in other.parameters():
            parameter.zero_()
        close(other(x), torch.zeros(5, 8))
        close(fast(x), eager(x))


def test_a_compiled_module_is_saved_as_the_module_is() -> None:
    module, fast, eager, x = pair()
    with torch.no_grad():
        close(fast(x), eager(x))
    stored = io.BytesIO()
    torch.save(fast.state_dict(), stored)
    stored.seek(0)
    state = torch.load(stored)
    assert state.keys() == {f"_orig_mod.{name}" for name in module.state_dict()}
    again = pickle.loads(pickle.dumps(module))
    with torch.no_grad():
        close(rooftile.compile(again)(x), again(x))


def test_a_compiled_module_is_pickled_as_torch_compile_does_it() -> None:
    _, fast, *_ = pair()
    theirs: Any = torch.compile(Net(), backend="eager")
    outcomes = []
    for compiled in (fast, theirs):
        try:
            pickle.loads(pickle.dumps(compiled))
            outcomes.append("pickled")
        except Exception as error:
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]


def test_autocast_around_the_call() -> None:
    _, fast, eager, x = pair()
    with torch.no_grad():
        close(fast(x), eager(x))
        with torch.autocast("cpu", torch.bfloat16):
            got, want = fast(x), eager(x)
        assert got.dtype is want.dtype is torch.bfloat16
        torch.testing.assert_close(got, want, rtol=0.02, atol=0.01)
        close(fast(x), eager(x))


def test_training_and_evaluation() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(8))
    fast, eager, x = rooftile.compile(module), copy.deepcopy(module), torch.randn(6, 8)
    for train in (True, False):
        module.train(train), eager.train(train)
        torch.manual_seed(1)
        got = fast(x)
        torch.manual_seed(1)
        close(got, eager(x))
    close(module[2].running_mean, eager[2].running_mean)


def test_branches_on_values_run_in_pieces() -> None:
    def chooses(x: Tensor) -> Tensor:
        y = (x * 2).softmax(-1)
        if y.max() > 0.5:
            return y.exp() + 1
        return y.cumsum(-1) - 1

    fast = rooftile.compile(chooses)
    with collecting() as compilations:
        for x in (torch.zeros(3, 4), torch.eye(4) * 9):
            close(fast(x), chooses(x))
    assert len(compilations) >= 3  # what stands before the branch, and either way on


def test_experts_looped_over_what_the_router_chose() -> None:
    experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def layer(x: Tensor, chosen: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        for number, expert in enumerate(experts):
            (rows,) = torch.where(chosen == number)
            result.index_add_(0, rows, expert(x[rows]))
        return result * 2

    fast = rooftile.compile(layer)
    with torch.no_grad():
        for seed in range(3):
            x, chosen = torch.randn(6, 8), torch.randint(0, 3, (6,), generator=torch.Generator().manual_seed(seed))
            close(fast(x, chosen), layer(x, chosen))
