"""The rows of kernels: launches that several share, what is computed once, and the steps that masks of data leave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rooftile.config import CompileOptions
from rooftile.ir.steps import loop_visits
from rooftile.passes.summarize import Summarize
from rooftile.report import KernelRow, Report
from rooftile.report.explaining import explain_with
from rooftile.report.page.content import content_of
from rooftile.report.text import as_text
from rooftile.textbook import ON_GPU, block_and_input
from tests.passes.test_summarize import Documents, by_tiles, numbered

ON_H100 = CompileOptions(target="h100")


@pytest.fixture(scope="module")
def demo() -> Report:
    torch._dynamo.reset()
    block, x = block_and_input(ON_GPU, torch.device("meta"))
    with torch.no_grad():
        return explain_with(block, (x,), {}, ON_H100)


def shared(report: Report) -> KernelRow:
    (found,) = [kernel for kernel in report.kernels if kernel.members]
    return found


def test_a_shared_launch_has_its_members_and_a_place_under_the_roofline(demo: Report) -> None:
    row = shared(demo)
    assert [member.name for member in row.members] == ["attention_contract", "attention_contract_1", "value_contract"]
    assert row.flops == sum(member.flops for member in row.members if isinstance(member.flops, int))
    assert row.ops == tuple(op for member in row.members for op in member.ops)
    assert row.roofline is not None and row.roofline.estimate_us is not None and demo.target is not None
    launch = demo.target.launch_us
    alone = sum(member.estimate_us - launch for member in row.members)
    assert row.roofline.estimate_us == pytest.approx(launch + alone)
    assert row.times_floor is not None and row.times_floor > 1


def test_with_run_time_sizes_a_kernel_is_expected_to_take_what_the_call_s_sizes_take() -> None:
    x = torch.empty(100_000, 1024, device="meta")
    expected = []
    for dynamic in (False, True):
        torch._dynamo.reset()
        report = explain_with(lambda x: torch.relu(x) * 2, (x,), {}, CompileOptions(target="h100", dynamic=dynamic))
        (row,) = report.kernels
        assert row.roofline is not None
        expected.append(row.roofline.estimate_us)
    assert expected[0] == pytest.approx(expected[1])


def test_a_shared_launch_has_no_schedule_but_those_of_its_members(demo: Report) -> None:
    row = shared(demo)
    assert "axes" not in row.schedule and row.schedule["num_warps"]
    for member in row.members:
        assert member.schedule["axes"] and row.schedule.items() <= member.schedule.items()
    text = as_text(demo)
    assert f"{row.name}  one launch for 3" in text and "\n  value_contract  " in text


def test_a_shared_launch_computes_what_its_members_do_apart(demo: Report) -> None:
    torch._dynamo.reset()
    block, x = block_and_input(ON_GPU, torch.device("meta"))
    with torch.no_grad():
        apart = explain_with(block, (x,), {}, CompileOptions(target="h100", without=("beside",)))
    row, rows = shared(demo), {kernel.name: kernel for kernel in apart.kernels}
    for member in row.members:
        assert (member.flops, member.ops, member.lines) == (
            rows[member.name].flops,
            rows[member.name].ops,
            rows[member.name].lines,
        )
        assert set(rows[member.name].values) <= set(row.values)


class Rotated(nn.Module):
    """Attention within documents, behind what is computed from a weight alone."""

    def __init__(self) -> None:
        super().__init__()
        self.angle = nn.Parameter(torch.randn(16))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, document: Tensor) -> Tensor:
        mixed: Tensor = Documents()(q * self.angle.cos(), k, v, document)
        return mixed


def told(report: Report, document: Tensor, tile: tuple[int, int]) -> None:
    """The pictures are those of the documents, counted."""
    (compilation,) = report.compilations
    (step,) = [s for s in compilation.plan.launches if s.visits is not None]  # type: ignore[union-attr]
    (picture,) = loop_visits(step.op.regions[1], {}, 1000, compilation.visits[step.visits])  # type: ignore[index]
    rows, columns = tile
    assert picture.rows and all(len(firsts) == 1 for firsts, _ in picture.rows)
    seen = document[:, :, None] == document[:, None, :]
    assert picture.tile == columns
    for firsts, runs in picture.rows:
        (first,) = firsts.values()
        block = seen[0, first : first + rows]
        some = [bool(part.any()) for part in block.split(columns, dim=-1)]
        every = [bool(part.all()) for part in block.split(columns, dim=-1)]
        phases = {n: phase for phase, start, stop in runs for n in range(start, stop)}
        assert [n in phases for n in range(picture.steps)] == some
        assert all(every[n] for n, phase in phases.items() if phase == "bare")
        assert len(phases) == sum(stop - start for _, start, stop in runs)
    (loop,) = [loop for kernel in report.kernels for loop in kernel.loops if len(loop.phases) > 1]
    assert loop.visited == int(by_tiles(seen, columns)[0].sum()) * (loop.total // picture.steps // picture.count)  # type: ignore[operator]


def test_a_mask_that_is_data_is_pictured_as_it_was_in_the_call() -> None:
    torch._dynamo.reset()
    document = numbered([500, 1100], 1300)[None]
    inputs = tuple(torch.randn(1, 4, 1300, 16) for _ in range(3))
    with torch.no_grad():
        report = explain_with(Rotated(), (*inputs, document), {}, CompileOptions())
    assert [kernel.name for kernel in report.packed] == ["cos"]
    told(report, document, (512, 512))
    masks = [kernel["masks"] for kernel in content_of(report)[0]["programs"][0]["kernels"]]
    assert len([mask for found in masks for mask in found]) == 1


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_for_a_device_that_is_not_here_the_reference_tells_if_there_is_data(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Summarize, "pays", lambda *_: True)  # for so few rows it does not
    torch._dynamo.reset()
    document = numbered([100, 330], 512)[None].to(device)
    inputs = tuple(torch.randn(1, 2, 512, 64, dtype=torch.bfloat16).to(device) for _ in range(3))
    with torch.no_grad():
        report = explain_with(Documents(), (*inputs, document), {}, ON_H100)
    (step,) = [s for s in report.compilations[0].plan.launches if s.visits is not None]  # type: ignore[union-attr]
    kernels = content_of(report)[0]["programs"][0]["kernels"]
    if device == "cpu":
        tiles = {name: tile for name, _, _, tile in step.op.regions[1].attrs["axes"]}
        told(report, document, (tiles["i"], tiles["j_1"]))
        assert not any(kernel["unpictured"] for kernel in kernels)
    else:
        (why,) = [kernel["unpictured"] for kernel in kernels if kernel["unpictured"]]
        assert why.startswith("its mask is data: %") and "shapes alone" in why
        assert "as the data say, of " in as_text(report)
