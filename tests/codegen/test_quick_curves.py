"""The short texts of smooth functions in kernels on narrow floats: how far they are from the functions, everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rooftile.codegen.functions import functions_in
from rooftile.runtime.interpreter.program import Interpreted

COUNT = 2**14
KERNEL = """
import triton
import triton.language as tl
from triton.language.extra import libdevice

{definitions}

@triton.jit
def kernel(x_ptr, y_ptr):
    at = tl.arange(0, {count})
    tl.store(y_ptr + at, {name}(tl.load(x_ptr + at)))
"""
CASES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float, float, float]] = {
    "quick_reciprocal": (torch.reciprocal, -80.0, 80.0, 1e-6),
    "quick_tanh": (torch.tanh, -20.0, 20.0, 6e-6),
    "quick_sigmoid": (torch.sigmoid, -80.0, 80.0, 1e-5),
    "quick_erfc": (torch.special.erfc, -6.0, 9.0, 2e-5),
}


def run(name: str, x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    definitions = "\n\n".join(f"@triton.jit\n{text}" for text in functions_in(f"{name}(x)"))
    source = KERNEL.format(definitions=definitions, name=name, count=len(x))
    Interpreted("kernel", source).run((1,), (x, y))
    return y


@pytest.mark.parametrize("name", CASES)
def test_the_share_by_which_it_is_wrong(name: str) -> None:
    function, low, high, most = CASES[name]
    x = torch.linspace(low, high, COUNT)
    exact = function(x.double())
    assert ((run(name, x).double() - exact) / exact).abs().nan_to_num().max() <= most


@pytest.mark.parametrize("name", CASES)
def test_ends_and_what_is_no_number(name: str) -> None:
    x = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, 1e30, -1e30, 200.0, -200.0])
    torch.testing.assert_close(run(name, x), CASES[name][0](x), equal_nan=True)
