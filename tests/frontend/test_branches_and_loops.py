"""Branches and loops on data: torch runs them, between pieces that are compiled, and what they call is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.utils.checkpoint import checkpoint

import rooftile
from rooftile.driver import collecting
from rooftile.errors import RequirementError
from tests.versions import needs_torch

ROWS, WIDTH = 6, 8


class Chooses(nn.Module):
    """Projects its input by one of two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        z = torch.cond(x.sum() > 0, lambda y: self.left(y).softmax(-1), lambda y: self.right(y) * x.shape[0], (y,))
        return z.relu() + y.sum()  # type: ignore[no-any-return]


def nested(x: Tensor) -> Tensor:
    def left(x: Tensor) -> Tensor:
        return torch.cond(x.max() > 1, lambda x: x * 2 + 1, lambda x: x - 1, (x,)).exp()  # type: ignore[no-any-return]

    return torch.cond(x.sum() > 0, left, lambda x: x.sin(), (x.relu() - 0.5,)) + 1  # type: ignore[no-any-return]


def in_a_checkpoint(x: Tensor) -> Tensor:
    return checkpoint(lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)) * 2, x, use_reentrant=False)  # type: ignore[no-any-return]


def around_a_checkpoint(x: Tensor) -> Tensor:
    def left(x: Tensor) -> Tensor:
        return checkpoint(lambda y: y.softmax(-1), x, use_reentrant=False)  # type: ignore[no-any-return]

    return torch.cond(x.sum() > 0, left, lambda x: x.sin(), (x * 2,))  # type: ignore[no-any-return]


def several(x: Tensor) -> tuple[Tensor, Tensor]:
    a, b = torch.cond(x.sum() > 0, lambda x: (x.softmax(-1), x.sum(0)), lambda x: (x + 1, x.amax(0)), (x.T.relu().T,))
    return a + b, a


def writes_to_its_input(x: Tensor) -> Tensor:
    z = torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y.sin(), (x * 2,))
    x.copy_(z)
    return z * 2  # type: ignore[no-any-return]


def loops(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.softmax(-1)
    start = torch.zeros((), dtype=torch.int64)
    number, z = while_loop(lambda i, z: (i < 4) & (z.sum() < 50), lambda i, z: (i + 1, z * 1.5 + y), (start, x))
    return z.relu() + y, number


def never_loops(x: Tensor) -> Tensor:
    (z,) = while_loop(lambda z: z.sum() > 1e9, lambda z: (z * 2,), (x + 1,))
    return z + x  # type: ignore[no-any-return]


def scans(x: Tensor) -> tuple[Tensor, Tensor]:
    last, every = scan(lambda c, x: (c * 0.5 + x, c + x), torch.zeros(WIDTH), x.softmax(-1), dim=0)
    return last, every * 2


def scans_in_any_order(x: Tensor) -> Tensor:
    return associative_scan(lambda a, b: a * b + 0.1 * a * b, x.sigmoid(), dim=0, combine_mode="generic")  # type: ignore[no-any-return]


def maps(x: Tensor) -> Tensor:
    return torch_map(lambda row, x: row.softmax(-1) @ x.T, x.relu(), x) + 1  # type: ignore[no-any-return]


MODELS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (nested, in_a_checkpoint, around_a_checkpoint, several, writes_to_its_input, loops, never_loops, scans)
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", [*MODELS, "module"])
def test_it_gives_eagers_answer_and_what_lies_around_is_compiled(name: str, dynamic: bool) -> None:
    torch.manual_seed(0)
    model = MODELS.get(name) or Chooses()
    torch._dynamo.reset()
    fast = rooftile.compile(model, dynamic=dynamic)
    with torch.no_grad(), collecting() as compilations:
        for rows in (ROWS, 9) if dynamic else (ROWS,):
            for sign in (1, -1):
                x = torch.randn(rows, WIDTH).abs() * sign
                ours, eagers = x.clone(), x.clone()
                torch.testing.assert_close(fast(ours), model(eagers))
                torch.testing.assert_close(ours, eagers)
    assert len(compilations) >= 2
    assert any(entry.decision == "extern" for c in compilations for entry in c.context.ledger)


@pytest.mark.parametrize("name", ["nested", "in_a_checkpoint", "around_a_checkpoint"])
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_flow_through_it(name: str, sign: int) -> None:
    torch._dynamo.reset()
    x = (torch.rand(ROWS, WIDTH) * sign).requires_grad_()
    ours, eagers = rooftile.compile(MODELS[name])(x), MODELS[name](x)
    torch.testing.assert_close(ours, eagers)
    wanted = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, x, wanted), torch.autograd.grad(eagers, x, wanted))


@pytest.mark.parametrize("function", [scans_in_any_order, maps])
def test_few_steps_are_written_out(function: Callable[[Tensor], Tensor]) -> None:
    torch._dynamo.reset()
    x = torch.randn(ROWS, WIDTH)
    with torch.no_grad():
        fast = rooftile.compile(function, options={"require": ["no-extern"]})
        torch.testing.assert_close(fast(x), function(x))


def test_many_steps_are_not() -> None:
    torch._dynamo.reset()
    x = torch.randn(70, WIDTH)
    with torch.no_grad(), collecting() as compilations:
        torch.testing.assert_close(rooftile.compile(maps)(x), maps(x))
    assert len(compilations) == 3


def test_the_report_and_the_requirement_name_the_line() -> None:
    model, x = Chooses(), torch.randn(ROWS, WIDTH)
    line = Chooses.forward.__code__.co_firstlineno + 2
    with torch.no_grad():
        torch._dynamo.reset()
        report = rooftile.explain(model, x)
        (entry,) = [e for e in report.ledger if e.decision == "extern"]
        assert "cond chooses what it calls" in entry.reason and entry.sources == (f"{__file__}:{line}",)
        assert report.uncompiled == 0
        torch._dynamo.reset()
        with pytest.raises(RequirementError, match="torch runs cond") as caught:
            rooftile.compile(model, options={"require": ["no-extern"]})(x)
    assert caught.value.where == f"{__file__}:{line}"


@needs_torch("2.12", "Dynamo refuses branches that write")
def test_a_branch_that_writes_runs_uncompiled(caplog: pytest.LogCaptureFixture) -> None:
    def adds(y: Tensor) -> Tensor:
        y.add_(1)
        return y + 1

    def chooses(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, adds, torch.sin, (x * 2,))  # type: ignore[no-any-return]

    torch._dynamo.reset()
    x = torch.rand(ROWS, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(rooftile.compile(chooses)(x), chooses(x))
    assert "runs uncompiled" in caplog.text and "writes to a tensor" in caplog.text


def test_it_is_exported() -> None:
    torch.manual_seed(0)
    model, x = Chooses().eval(), torch.randn(ROWS, WIDTH)
    program = rooftile.export(model, (x,))
    for sign in (1, -1):
        torch.testing.assert_close(program(x.abs() * sign), model(x.abs() * sign))


def test_a_branch_is_given_the_lesser_of_two_sizes() -> None:
    def model(x: Tensor, y: Tensor) -> Tensor:
        rows = min(x.shape[0], y.shape[0])
        return torch.cond(x.sum() > 0, lambda x: x * rows, lambda x: x - rows, (x,)) + 1  # type: ignore[no-any-return]

    torch._dynamo.reset()
    fast = rooftile.compile(model, dynamic=True)
    for rows in ((ROWS, 3), (9, 4), (3, 9)):
        x, y = (torch.randn(n, WIDTH) for n in rows)
        torch.testing.assert_close(fast(x, y), model(x, y))
