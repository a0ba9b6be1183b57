"""What kernels on narrow floats compute with fewer instructions is right to far more than these hold."""

from __future__ import annotations

import torch

import rooftile


def test_tanh_is_right_to_a_few_millionths() -> None:
    sizes = torch.logspace(-30, 2, 4000, dtype=torch.float64)
    x = torch.cat([sizes, -sizes, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])]).bfloat16()
    result = rooftile.compile(lambda x: torch.tanh(x.float()))(x)
    exact = torch.tanh(x.double())
    assert torch.equal(result.isnan(), exact.isnan())
    assert torch.equal(torch.signbit(result[~exact.isnan()]), torch.signbit(exact[~exact.isnan()]))
    torch.testing.assert_close(result.double(), exact, rtol=6e-6, atol=0, equal_nan=True)


def test_tanh_in_fp32_is_the_librarys() -> None:
    x = torch.linspace(-4, 4, 1001)
    result = rooftile.compile(torch.tanh)(x)
    torch.testing.assert_close(result.double(), torch.tanh(x.double()), rtol=2e-7, atol=0)
