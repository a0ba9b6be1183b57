"""Quotients as products: as exact as two roundings allow, and the same where numbers are extreme."""

from __future__ import annotations

import itertools

import pytest
import torch

from rooftile.ir.evaluator import evaluate
from rooftile.ir.parser import parse_graph
from rooftile.passes.reciprocals import GREATEST, LEAST, multiplied

TEXT = """
graph rows(%x: f32[{n}, 8], %y: f32[{n}], %narrow: bf16[{n}, 8]) {{
    %ys = expand(%y, dims=[0]) : f32[{n}, 8]
    %p = pointwise.div(%x, %ys) : f32[{n}, 8]
    return %p
}}
"""
EXTREME = (0.0, 1e-45, 1e-40, 2.0**-127, LEAST, 1e-20, 0.3, 1.0, 3.0, 1e20, GREATEST, 2.0**127, 3.4e38, torch.inf)
SIGNED = [sign * value for value in EXTREME for sign in (1.0, -1.0)] + [torch.nan]


def test_extreme_numbers_have_their_quotients() -> None:
    pairs = list(itertools.product(SIGNED, SIGNED))
    x = torch.tensor([a for a, _ in pairs]).repeat(8, 1).T.contiguous()
    y = torch.tensor([b for _, b in pairs])
    body = parse_graph(TEXT.format(n=len(pairs)))
    rewritten = multiplied(body)
    assert [op.attrs["fn"] for op in rewritten.ops if op.name == "pointwise"].count("div") == 1
    (ours,) = evaluate(rewritten, [x, y, x.bfloat16()], {})
    exact = (x.double() / y.double()[:, None]).float()
    torch.testing.assert_close(ours.isnan(), exact.isnan())
    there = ~exact.isnan()
    # A result of the least numbers may be off by one of their steps, any other by two roundings.
    torch.testing.assert_close(ours[there], exact[there], rtol=1.8e-7, atol=1.5e-45)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_ordinary_numbers_are_rounded_twice(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4096, 8, generator=generator), scale * torch.randn(4096, generator=generator)
    (ours,) = evaluate(multiplied(parse_graph(TEXT.format(n=4096))), [x, y, x.bfloat16()], {})
    exact = x.double() / y.double()[:, None]
    torch.testing.assert_close(ours.double(), exact, rtol=1.8e-7, atol=1e-44)
