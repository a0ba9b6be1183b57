"""Functions of functions: those of ``torch.func`` are traced through, those that only call one as if it stood there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importer import import_captured
from rooftile.ir.evaluator import evaluate
from tests.frontend.captures import distance, run

HEADS, LENGTH, WIDTH = 3, 8, 4


def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.T / WIDTH**0.5, -1) @ v


def of_every_head(x: Tensor) -> Tensor:
    return torch.vmap(torch.vmap(one_head))(x, x, x)


def near(i: Tensor, j: Tensor) -> Tensor:
    return (i >= j) & (i - j < 3)


def masked(x: Tensor) -> Tensor:
    at = torch.arange(LENGTH)
    mask = torch.vmap(torch.vmap(near, (None, 0)), (0, None))(at, at)
    return torch.softmax((x @ x.mT).masked_fill(~mask, -torch.inf), -1) @ x


def slope(x: Tensor) -> Tensor:
    return torch.func.grad(lambda a: (a.sin() * a).sum())(x)


def forward_slope(x: Tensor) -> Tensor:
    return torch.func.jvp(lambda a: a.sin() * a, (x,), (torch.ones_like(x),))[1]


def kept_in_part(x: Tensor) -> Tensor:
    return checkpoint(lambda a: a.relu() + of_every_head(a), x, use_reentrant=False)  # type: ignore[no-any-return]


@torch.compiler.nested_compile_region  # type: ignore[untyped-decorator]
def layer(x: Tensor) -> Tensor:
    return x.softmax(-1) * x.sin()


def layers(x: Tensor) -> Tensor:
    return layer(layer(x))


@pytest.mark.parametrize("function", [of_every_head, masked, slope, forward_slope, kept_in_part, layers])
def test_a_function_of_functions_is_one_graph_without_externs(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, HEADS, LENGTH, WIDTH)
    with torch.no_grad():
        got, truth, recorder = run(function, x)
        want = function(x)
    assert len(recorder.imported) == 1 and not recorder.externs
    assert distance(got, truth) <= 1.1 * distance(want, truth) + 4e-7


def test_an_exported_program_may_turn_gradients_off() -> None:
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                angles = x.sin()
            return self.proj(x) * angles  # type: ignore[no-any-return]

    torch.manual_seed(0)
    module, x = Rotated(), torch.randn(LENGTH, WIDTH)
    exported = torch.export.export(module, (x,))
    assert any("set_grad_enabled" in str(node.target) for node in exported.graph.nodes)
    captured = capture_exported(exported)
    given = [x if each.value is None else each.value for each in captured.inputs]
    (result,) = evaluate(import_captured(captured).graph, given)
    torch.testing.assert_close(result, module(x))
