"""``rooftile.explain``: the schema that stays compatible, what the numbers mean, and how it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import rooftile
from rooftile.config import CompileOptions
from rooftile.errors import OptionError, RequirementError
from rooftile.report import Report
from rooftile.report.explaining import explain_with
from rooftile.report.text import counted, places, quantity
from tests.rooftile.models_to_name import Mlp, scores, sorted_scores

# The interface of `to_dict`: keys may be added, none may go.
SCHEMA: dict[str, set[str]] = {
    "": {"device", "versions", "kernels", "buffers", "ledger", "derivations", "totals"},
    "kernels": {
        "name", "kind", "launches", "schedule", "loops", "reads", "writes", "bytes", "flops", "floor_us", "time_us",
        "ops", "sources",
    },
    "buffers": {"name", "shape", "dtype", "bytes", "role"},
    "ledger": {"decision", "rule", "values", "reason", "bytes", "sources"},
    "derivations": {"value", "steps"},
    "totals": {"kernels", "bytes", "eager_bytes", "flops", "peak_bytes"},
}  # fmt: skip


@pytest.fixture(scope="module")
def report() -> Report:
    return rooftile.explain(Mlp(), torch.randn(4, 16))


def test_the_schema(report: Report) -> None:
    found = report.to_dict()
    assert SCHEMA[""] <= set(found)
    for part in ("kernels", "buffers", "ledger", "derivations"):
        assert all(SCHEMA[part] <= set(row) for row in found[part]), part
    assert SCHEMA["totals"] <= set(found["totals"])
    assert found["kernels"] and found["buffers"] and found["ledger"]
    loops = [loop for kernel in found["kernels"] for loop in kernel["loops"]]
    assert loops and all({"axis", "visited", "total", "phases"} <= set(loop) for loop in loops)


def test_what_is_counted(report: Report) -> None:
    roles = {b.name: b.role for b in report.buffers}
    sizes = {b.name: b.bytes for b in report.buffers}
    assert sorted(set(roles.values()) - {"intermediate"}) == ["input", "output", "weight"]
    assert {sizes[name] for name, role in roles.items() if role == "weight"} == {2048, 128, 64}
    for kernel in report.kernels:  # none of them reads a part of a buffer
        assert kernel.bytes == sum(sizes[name] for name in (*kernel.reads, *kernel.writes))  # type: ignore[misc]
    assert report.totals.kernels == len(report.kernels)
    assert report.totals.bytes == sum(k.bytes for k in report.kernels)  # type: ignore[misc]
    assert isinstance(report.totals.flops, int) and report.totals.flops >= 2 * 2 * 4 * 16 * 32
    assert isinstance(report.totals.eager_bytes, int) and report.totals.eager_bytes > report.totals.bytes
    between = [b.bytes for b in report.buffers if b.role == "intermediate"]
    assert report.totals.peak_bytes == 256 + sum(between)  # type: ignore[arg-type]


def test_kernels_name_the_users_lines(report: Report) -> None:
    sources = [source for kernel in report.kernels for source in kernel.sources]
    assert sources and all("models_to_name.py:" in source for source in sources)


def test_every_kernel_has_roles_for_its_axes(report: Report) -> None:
    for kernel in report.kernels:
        assert {axis["role"] for axis in kernel.schedule["axes"]} <= {"grid", "loop", "whole", "parts"}


def test_an_aten_call_is_listed() -> None:
    report = rooftile.explain(sorted_scores, torch.randn(5, 8))
    assert [k.kind for k in report.kernels] == ["extern", "triton"]
    assert report.kernels[0].name.startswith("aten.")
    assert [e.decision for e in report.ledger if "aten" in e.reason] == ["extern"]


def test_a_model_that_breaks_is_several_graphs() -> None:
    def breaks(x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        torch._dynamo.graph_break()
        return x.exp()

    report = rooftile.explain(breaks, torch.randn(8))
    assert report.graphs == 2 and report.totals.kernels == 2
    names = [b.name for b in report.buffers]
    assert len(set(names)) == len(names)
    (found,) = report.breaks
    assert found.source == f"{__file__}:{breaks.__code__.co_firstlineno + 2}"
    assert "graph_break" in found.reason and found.fix.startswith("Remove the")
    assert "Graph breaks" in str(report) and "graph_break" in str(report)


def test_a_branch_on_a_value_is_a_break_with_advice() -> None:
    def chooses(x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        return x.exp() if x.max() > 1 else x.sin()

    report = rooftile.explain(chooses, torch.randn(8))
    (found,) = report.breaks
    assert found.source == f"{__file__}:{chooses.__code__.co_firstlineno + 2}"
    assert "torch.where" in found.fix
    assert not rooftile.explain(torch.sin, torch.randn(8)).breaks


def test_looking_again_compiles_again() -> None:
    model, x = nn.Linear(4, 4), torch.randn(2, 4)
    counts = {
        rooftile.explain(model, x).totals.kernels for _ in range(12)
    }  # more often than Dynamo compiles by default
    assert counts == {1}


def test_requirements_are_ours_not_dynamos() -> None:
    with pytest.raises(RequirementError, match="no-extern"):
        explain_with(sorted_scores, (torch.randn(5, 8),), {}, CompileOptions(require=("no-extern",)))


def test_sizes_of_the_run_stand_in_for_symbols() -> None:
    report = explain_with(scores, (torch.randn(6, 4), torch.randn(9, 4)), {}, CompileOptions(dynamic=True))
    assert isinstance(report.totals.bytes, int) and report.totals.peak_bytes is not None


def test_it_prints_as_text_and_through_rich(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(report)
    assert all(kernel.name in text for kernel in report.kernels) and "Decisions" in text
    Console(width=120).print(report)
    shown = capsys.readouterr().out
    assert all(kernel.name in shown for kernel in report.kernels)


def test_it_is_saved_as_json(report: Report, tmp_path: Path) -> None:
    path = report.save(tmp_path / "report.json")
    read: dict[str, Any] = json.loads(path.read_text())
    assert read == report.to_dict()
    with pytest.raises(OptionError, match=r"report\.txt"):
        report.save(tmp_path / "report.txt")


def test_how_quantities_read() -> None:
    assert [quantity(v, "B") for v in (0, 999, 12_345, -2_000_000, "4 * s0", None)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "-2.0 MB",
        "4 * s0 B",
        "unknown",
    ]
    assert counted(("mul", "add", "mul")) == "mul x2, add"
    assert places(("/a/m.py:1", "/a/m.py:9", "/b/n.py:4", "/a/m.py:1")) == "m.py:1,9 n.py:4"


def test_how_tiles_are_moved_is_said() -> None:
    product = nn.Linear(4096, 4096, bias=False, device="meta", dtype=torch.bfloat16)
    x = torch.empty(4096, 4096, device="meta", dtype=torch.bfloat16)
    report = explain_with(product, (x,), {}, CompileOptions(target="h100"))
    (kernel,) = report.kernels
    assert kernel.schedule["persistent"] and kernel.schedule["descriptors"]
    assert kernel.notes[0].startswith("Memory through descriptors: ")
    assert "How tiles are moved" in str(report)


def test_a_model_without_values_is_explained_by_shapes_wherever_its_inputs_are() -> None:
    report = explain_with(nn.Linear(16, 8, device="meta"), (torch.randn(4, 16),), {}, CompileOptions(target="h100"))
    assert [b.shape for b in report.buffers if b.role == "input"] == [(4, 16)]


def test_steps_that_a_mask_leaves_out_are_no_work() -> None:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    q = torch.empty(1, 4, 2048, 64, device="meta", dtype=torch.bfloat16)
    options = CompileOptions(target="h100")
    full, causal = (explain_with(attention, (q, q, q, c), {}, options).kernels[0] for c in (False, True))
    (loop,) = causal.loops
    assert isinstance(loop.visited, int) and isinstance(loop.total, int) and loop.visited < 0.6 * loop.total
    assert full.roofline is not None and causal.roofline is not None and full.floor_us and causal.floor_us
    expected = full.roofline.contractions_us * loop.visited / loop.total
    assert causal.roofline.contractions_us == pytest.approx(expected, rel=1e-6)
    assert causal.floor_us < 0.6 * full.floor_us
