"""What is computed from weights is kept as long as they stay as they are, and computed again when they don't."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import rooftile
from rooftile.driver import collecting
from rooftile.errors import InputError
from rooftile.runtime.packed import Packed
from rooftile.runtime.plan import Call


class Scaled(nn.Module):
    """``x`` times two weights, of which the columns are scaled: what it is multiplied with depends on weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(32, 32), nn.Linear(32, 16)
        self.gain = nn.Parameter(torch.rand(32) + 0.5)
        self.register_buffer("calls", torch.zeros(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (torch.cat([self.q.weight, self.k.weight]) * self.gain).T


class Counting(Scaled):
    """The gain is a buffer that every call writes to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x @ (self.q.weight * self.calls).T


@pytest.fixture
def programs() -> Callable[[], list[Packed]]:
    """The programs since the test began that have computed something from weights."""
    before = all_packed()
    return lambda: [each for each in all_packed() if not any(each is other for other in before)]


def all_packed() -> list[Packed]:
    return [each for each in gc.get_objects() if type(each) is Packed and each._latest is not None]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each time that something was computed from weights."""
    made: list[int] = []
    compute = Packed._compute

    def counted(self: Packed, *args: object) -> object:
        made.append(1)
        return compute(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Packed, "_compute", counted)
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


X = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))


def agrees(fast: object, model: nn.Module, x: torch.Tensor = X) -> None:
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))  # type: ignore[operator]


def test_computed_once_for_many_calls(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(model)
    for _ in range(3):
        agrees(fast, model)
    assert len(runs) == 1


def test_a_write_in_place_is_noticed(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(model)
    agrees(fast, model)
    with torch.no_grad():
        model.gain.mul_(2)
    agrees(fast, model)
    model.load_state_dict(Scaled().state_dict())
    agrees(fast, model)
    with torch.inference_mode():
        model.q.weight.mul_(3)
    agrees(fast, model)
    assert len(runs) == 4


def test_a_weight_replaced_is_noticed(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(model)
    agrees(fast, model)
    model.gain = nn.Parameter(torch.rand(32))
    agrees(fast, model)
    model.k = nn.Linear(32, 16)
    agrees(fast, model)
    model.gain.data = torch.rand(32)
    agrees(fast, model)
    model.double()
    agrees(fast, model, X.double())


class Experts(nn.Module):
    """Experts with weights of their own: their products are those of one tensor, into which they are copied once."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(32, 6)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2)
        terms = (e(x) * ((chosen == n) * weights).sum(-1, keepdim=True) for n, e in enumerate(self.experts))
        return sum(terms, torch.zeros_like(x))


def places(packed: Packed) -> list[int]:
    assert packed._latest is not None
    return [t.data_ptr() for t in packed._latest.results]


def expert_bytes(model: Experts) -> int:
    return sum(p.nbytes for e in model.experts for p in e.parameters())


def test_weights_one_behind_the_other_are_laid_out_again_where_they_were(
    runs: list[int], programs: Callable[[], list[Packed]]
) -> None:
    torch.manual_seed(0)
    model = Experts().eval()
    fast = rooftile.compile(model)
    with collecting() as compilations:
        agrees(fast, model)
        agrees(fast, model)
    (compilation,) = compilations
    (packed,) = programs()
    before = places(packed)
    assert packed.kept_bytes == expert_bytes(model) and len(runs) == 1
    assert compilation.plan is not None and not [step for step in compilation.plan.steps if isinstance(step, Call)]
    with torch.no_grad():
        model.experts[3].weight.mul_(2)
    agrees(fast, model)
    model.load_state_dict(Experts().state_dict())
    agrees(fast, model)
    assert places(packed) == before and len(runs) == 3


def test_weights_that_are_replaced_are_laid_out_instead(runs: list[int], programs: Callable[[], list[Packed]]) -> None:
    torch.manual_seed(0)
    model = Experts().eval()
    fast = rooftile.compile(model)
    agrees(fast, model)
    (packed,) = programs()
    model.load_state_dict(Experts().state_dict(), assign=True)
    agrees(fast, model)
    model.experts[1] = nn.Linear(32, 32)
    agrees(fast, model)
    model.experts[2].weight.data = torch.rand(32, 32)
    agrees(fast, model)
    assert len(runs) == 4 and packed.kept_bytes == expert_bytes(model)
    model.double()
    agrees(fast, model, X.double())


def test_programs_for_several_sizes_share_what_lies_one_behind_the_other(
    runs: list[int], programs: Callable[[], list[Packed]]
) -> None:
    torch.manual_seed(0)
    model = Experts().eval()
    fast = rooftile.compile(model, dynamic=False)
    for x in (X, X[:3], X):
        agrees(fast, model, x)
    one, other = programs()
    assert places(one) == places(other) and len(runs) == 2
    with torch.no_grad():
        model.experts[3].weight.mul_(2)
    for x in (X, X[:3]):
        agrees(fast, model, x)
    assert places(one) == places(other) and len(runs) == 4


def test_layers_that_share_a_program_keep_what_is_theirs(runs: list[int], programs: Callable[[], list[Packed]]) -> None:
    torch.manual_seed(0)
    layers = [Experts().eval() for _ in range(3)]
    call = torch.compile(lambda layer, x: layer(x), backend="rooftile")
    with collecting() as compilations, torch.no_grad():
        for _ in range(3):
            for layer in layers:
                torch.testing.assert_close(call(layer, X), layer(X))
        assert len(compilations) == 1 and len(runs) == 3
        (packed,) = programs()
        assert packed.kept_bytes == sum(map(expert_bytes, layers))
        layers[1].experts[0].weight.mul_(2)
        for layer in layers:
            torch.testing.assert_close(call(layer, X), layer(X))
        packed.invalidate()
        for layer in layers:
            torch.testing.assert_close(call(layer, X), layer(X))
    assert len(runs) == 7
    del layers[1:], layer
    gc.collect()
    layers[0].experts[0].weight.data = torch.rand(32, 32)
    with torch.no_grad():
        torch.testing.assert_close(call(layers[0], X), layers[0](X))
    assert packed.kept_bytes == expert_bytes(layers[0])


def test_experts_that_are_trained_are_right_and_keep_nothing(runs: list[int]) -> None:
    torch.manual_seed(0)
    model, plain = Experts(), Experts()
    plain.load_state_dict(model.state_dict())
    fast = rooftile.compile(model)
    for each, call in ((model, fast), (plain, plain)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            call(X).square().sum().backward()  # type: ignore[operator]
            optimizer.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    assert not runs
    model.eval()
    agrees(fast, model)
    assert len(runs) == 1


def test_an_exported_program_lays_weights_out_once(runs: list[int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Experts().eval()
    program = rooftile.export(model, (X,))
    program.save(tmp_path / "experts.rooftile")
    loaded = rooftile.load(tmp_path / "experts.rooftile")
    for each in (program, loaded):
        agrees(each, model)
        agrees(each, model)
    assert len(runs) == 2


def test_a_write_that_torch_does_not_count_takes_an_invalidation(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(model)
    agrees(fast, model)
    model.gain.data.mul_(2)
    with pytest.raises(AssertionError):
        agrees(fast, model)
    fast.invalidate()  # type: ignore[operator]
    agrees(fast, model)
    assert len(runs) == 2
    assert not hasattr(model, "invalidate")


def test_a_compiled_function_is_invalidated_too(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(lambda x: model(x))
    agrees(fast, model)
    model.gain.data.mul_(2)
    fast.invalidate()  # type: ignore[attr-defined]
    agrees(fast, model)


def test_nothing_is_kept_in_training(runs: list[int]) -> None:
    model = Scaled()
    fast = rooftile.compile(model)
    for _ in range(2):
        fast(X).square().mean().backward()
        for parameter in (model.gain, model.q.weight, model.k.weight):
            assert parameter.grad is not None
            parameter.data.sub_(0.1 * parameter.grad)  # as optimizers once did: no version counts this
        agrees(fast, model)
    model.eval()
    agrees(fast, model)


def test_gradients_alone_are_a_sign_of_training(runs: list[int]) -> None:
    model = Scaled().eval()
    fast = rooftile.compile(model)
    agrees(fast, model)
    fast(X).sum().backward()
    model.gain.data.mul_(2)
    agrees(fast, model)


def test_tensors_without_a_version_give_nothing_that_is_kept(runs: list[int]) -> None:
    with torch.inference_mode():
        model = Scaled().eval()
        fast = rooftile.compile(model)
        for _ in range(2):
            torch.testing.assert_close(fast(X), model(X))
            model.gain.mul_(2)
    assert len(runs) == 2


def test_what_a_call_writes_to_does_not_last(runs: list[int]) -> None:
    model, other = Counting().eval(), Counting().eval()
    other.load_state_dict(model.state_dict())
    fast = rooftile.compile(model)
    for _ in range(3):
        agrees(fast, other)
    assert not runs


def test_an_exported_program_keeps_and_notices(runs: list[int], tmp_path: Path) -> None:
    model = Scaled().eval()
    program = rooftile.export(model, (X,))
    agrees(program, model)
    agrees(program, model)
    assert len(runs) == 1
    with torch.no_grad():
        model.gain.mul_(2)
    agrees(program, model)
    program.save(tmp_path / "scaled.pt2")
    agrees(rooftile.load(tmp_path / "scaled.pt2"), model)
    model.gain.data.mul_(2)
    program.invalidate()
    agrees(program, model)


def test_what_is_kept_is_reported(runs: list[int]) -> None:
    model = Scaled().eval()
    with torch.no_grad():
        report = rooftile.explain(model, X)
    assert len(report.kernels) == 1 and len(report.packed) == 1
    assert report.totals.kept_bytes == 48 * 32 * 4
    (entry,) = (e for e in report.ledger if e.decision == "packed")
    assert "no input but weights" in entry.reason
    assert "Kernels that run once" in str(report) and "kept from call to call" in str(report)


def test_what_a_call_may_write_to_is_not_kept_and_the_report_says_so(runs: list[int]) -> None:
    """A table of zeros, small as it is, is made anew for the ATen call that adds to it."""

    def counted(x: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        return torch.zeros(4, 32).index_add(0, number, x)

    report = rooftile.explain(counted, torch.randn(9, 32), torch.arange(9) % 4)
    assert not report.packed
    assert [(e.rule, "may write to" in e.reason) for e in report.ledger if e.decision == "cut"] == [("call", True)]


def test_a_call_with_too_few_tensors_is_refused(runs: list[int]) -> None:
    program = rooftile.export(Scaled().eval(), (X,))
    packed = program._function.program.program  # type: ignore[attr-defined]
    assert isinstance(packed, Packed)
    with pytest.raises(InputError, match="takes 7 tensors, the call brings 1"):
        packed([X], {})
