"""Operands of products that are computed: in the product's kernel, or in one before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.regions import meta, regions


def in_turns(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Gates and values stand in turns along the columns, as gpt_oss has them."""
    gate, up = x[..., ::2], x[..., 1::2]
    return (gate * torch.sigmoid(gate * 1.702) * (up + 1)) @ w


def operands(rows: int, columns: int) -> list[list[str]]:
    """The ops that compute something in each region."""
    found = regions(in_turns, (meta(rows, 2 * 2880), meta(2880, columns)), "h200")
    computing = ("contract", "pointwise")
    return [[str(op.attrs.get("fn", op.name)) for op in each.regions[0].ops if op.name in computing] for each in found]


def test_what_many_tiles_would_compute_is_computed_once() -> None:
    first, second = operands(4096, 2880)
    assert "sigmoid" in first and "contract" not in first
    assert second == ["contract"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 2880), (64, 64)])
def test_what_few_tiles_compute_needs_no_kernel_of_its_own(rows: int, columns: int) -> None:
    found: list[Any] = operands(rows, columns)
    assert len(found) == 1 or all("contract" in ops for ops in found)
