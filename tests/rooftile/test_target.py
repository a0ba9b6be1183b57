"""The device rows: complete, found by name, and told apart by what a card calls itself."""

from __future__ import annotations

import pytest

from rooftile.errors import OptionError
from rooftile.target import A100, CPU, CUDA, H100, H200, TARGETS, Target, detect_target, target_named

# Of the IR's element types, those with a matmul rate of their own, and TF32, which is a way of multiplying f32.
RATED = {"f64", "f32", "tf32", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "u8"}


@pytest.mark.parametrize("row", TARGETS.values(), ids=lambda row: row.name)
def test_a_row_is_complete_and_plausible(row: Target) -> None:
    assert set(row.flops) == RATED
    assert min(row.flops.values()) > 0
    assert row.flops["f64"] <= row.flops["f32"] <= row.flops["tf32"]
    assert (row.kind == "cpu") == (row.arch == 0)
    assert row.max_tile_elements & (row.max_tile_elements - 1) == 0


@pytest.mark.parametrize(
    ("device_name", "row"),
    [
        ("NVIDIA H100 80GB HBM3", H100),
        ("NVIDIA H100 PCIe", H100),
        ("NVIDIA H200", H200),
        ("NVIDIA GH200 480GB", H200),
        ("NVIDIA A100-SXM4-80GB", A100),
        ("NVIDIA GeForce RTX 4090", CUDA),
        ("NVIDIA A10", CUDA),
        (None, CPU),
    ],
)
def test_a_card_is_known_by_its_name(device_name: str | None, row: Target) -> None:
    assert detect_target(device_name) is row


def test_a_target_is_named_in_any_case() -> None:
    assert target_named("H100") is H100


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="unknown target 'h10'\n  fix: did you mean 'h100'"):
        target_named("h10")


def test_the_floor_is_the_slower_of_moving_and_multiplying() -> None:
    assert H100.floor_seconds(3.02e12, 0, "bf16") == pytest.approx(1.0)
    assert H100.floor_seconds(3.02e12, 2 * 769e12, "bf16") == pytest.approx(2.0)
    assert H100.floor_seconds(0, 80e12, "i64") == pytest.approx(1.0)
