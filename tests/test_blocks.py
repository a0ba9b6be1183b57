"""Every block at sizes that fit no tile, in the narrow dtypes, and on inputs that no layer makes by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rooftile
from rooftile.checking import check
from rooftile.driver import collecting
from tests.models import BLOCKS

# One token, three at a time; more tokens than a GPU's tile has rows, and a width that is no power of two.
SIZES: dict[str, tuple[torch.dtype, dict[str, int]]] = {
    "1": (torch.bfloat16, {"length": 1, "batch": 3}),
    "129x96": (torch.float16, {"length": 129, "batch": 1, "width": 96}),
}
IMAGES = ("vit",)  # their length follows from the image


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, sizes: str) -> None:
    dtype, given = SIZES[sizes]
    model, inputs = BLOCKS[name](dtype=dtype, **{k: n for k, n in given.items() if name not in IMAGES or k != "length"})
    assert_kept(model, inputs)


@pytest.mark.parametrize("name", ["gpt2", "textbook_swiglu"])
def test_width_320_and_repeated_rows(name: str) -> None:
    model, (x,) = BLOCKS[name](batch=1, width=320, dtype=torch.bfloat16)
    assert_kept(model, (x.expand(3, -1, -1),))
    assert_kept(model, (x[:, :1].expand(1, 7, -1),))


def assert_kept(model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    torch._dynamo.reset()
    with collecting() as compilations:
        verdicts = check(rooftile.compile(model, options={"require": ["no-extern", "no-breaks"]}), model, inputs)
    assert all(v.kept for v in verdicts), [str(v) for v in verdicts]
    assert len(compilations) == 1
