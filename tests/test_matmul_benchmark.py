"""The benchmark of matrix products: every case small, and its table."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.matmul_table import faults, matmul_markdown, matmul_section
from benchmarks.matmul_trial import measure
from benchmarks.products import PRODUCTS


@pytest.mark.parametrize("name", ["4096x4096x4096-kn", "8192x8192x512-nk"])
def test_a_product_runs_small(name: str) -> None:
    with torch.no_grad():
        found = measure(name, "cpu", ["rooftile"], lambda: None)
    assert list(found["contenders"]) == ["eager", "rooftile"]
    assert all(each["kept"] and each["us"] > 0 for each in found["contenders"].values())
    assert found["contenders"]["eager"]["of_library"] == 1.0
    assert [kernel["kind"] for kernel in found["contenders"]["rooftile"]["kernels"]] == ["triton"]
    json.dumps(found)


def case(name: str, share: float) -> dict[str, object]:
    ours = {"us": 100.0 / share, "of_library": share, "kept": True, "compiled": []}
    contenders = {"eager": {"us": 100.0, "of_library": 1.0}, "rooftile": ours, "rooftile-tuned": ours}
    return {"case": name, "title": PRODUCTS[name].title, "flops": 1e10, "contenders": contenders}


def test_the_table_has_the_mean_of_each_way_to_keep_weights() -> None:
    cases = [case("4096x4096x4096-kn", 0.5), case("8192x8192x8192-kn", 2.0), case("4096x4096x4096-nk", 0.9)]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in matmul_markdown(cases).splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "4096 x 4096 x 4096, x @ w",
        "8192 x 8192 x 8192, x @ w",
        "geometric mean",
        "4096 x 4096 x 4096, x @ w.T",
    ]
    assert rows[0][1:] == ["100.0 us, 100 TFLOP/s", "200.0 us, 50 TFLOP/s", "200.0 us, 50 TFLOP/s", "0.50", "0.50"]
    assert rows[2][1:] == ["", "", "", "1.00", "1.00"]
    record = {"device": "H100", "versions": {"torch": "2"}, "date": "2026-11-28", "cases": cases}
    assert matmul_section([record]).startswith("**H100, 2026-11-28** (torch 2):\n\n| product |")


def test_what_is_wrong_is_told() -> None:
    wrong = {"kept": False, "compiled": [{"unmet": ["spills"]}]}
    assert faults({"contenders": {"rooftile": wrong}}) == ["rooftile: promise broken", "rooftile: spills"]
    assert faults({"failure": "more than 120 s"}) == ["more than 120 s"]
