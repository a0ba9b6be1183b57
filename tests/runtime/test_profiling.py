"""What torch.profiler shows of a program, and how a name that it shows leads back to the model's lines."""

from __future__ import annotations

import ast
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

import rooftile
from rooftile.config import CompileOptions
from rooftile.report.explaining import explain_with
from rooftile.runtime import profiling
from tests.rooftile.models_to_name import sorted_scores


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(16), nn.Linear(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.up(self.norm(x)))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.down = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = self.down(layer(x))
        return x


def ranges(call: object, *inputs: torch.Tensor) -> list[str]:
    assert callable(call)
    with torch.no_grad():
        call(*inputs)  # what is compiled now is not of interest
        with profile(activities=[ProfilerActivity.CPU]) as found:
            call(*inputs)
    return [event.name for event in found.events()]


def test_a_range_for_each_kernel_with_the_path_of_its_module() -> None:
    torch._dynamo.reset()
    model, x = Model(), torch.randn(4, 16)
    report = explain_with(model, (x,), {}, CompileOptions())
    names = ranges(rooftile.compile(model), x)
    assert "rooftile: main" in names
    of_kernels = [name for name in names if any(name.endswith(f": {kernel.name}") for kernel in report.kernels)]
    assert len(of_kernels) == len(report.kernels)
    for name in of_kernels:
        path, _, kernel = name.rpartition(": ")
        row = next(k for k in report.kernels if k.name == kernel)
        assert any(line.module.startswith(path) for line in row.lines)
    assert any(name.startswith("layers.1.") or name.startswith("layers.1:") for name in of_kernels)


def test_aten_calls_have_ranges_too() -> None:
    names = ranges(rooftile.compile(sorted_scores), torch.randn(5, 8))
    assert any(name.startswith("aten.") and "sort" in name for name in names)


def test_without_a_profiler_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    fast = rooftile.compile(model)
    fast(x)
    monkeypatch.setattr(torch.profiler, "record_function", lambda name: pytest.fail(f"recorded {name}"))
    fast(x)


def test_asking_costs_next_to_nothing() -> None:
    start = perf_counter()
    for _ in range(100_000):
        profiling.is_profiling()
    assert perf_counter() - start < 0.5  # 5 us a call; it takes about 0.05


def test_a_kernel_s_name_leads_to_the_model_s_lines(tmp_path: Path) -> None:
    model, x = Model(), torch.randn(4, 16)
    report = explain_with(model, (x,), {}, CompileOptions(dump=tmp_path))
    for kernel in report.kernels:
        text = (tmp_path / "kernels" / f"{kernel.name}.py").read_text()
        header = ast.get_docstring(ast.parse(text)) or ""
        assert kernel.sources and all(source in header for source in kernel.sources)


@pytest.mark.gpu
def test_the_gpu_s_kernels_bear_their_names() -> None:
    model, x = Model().cuda(), torch.randn(64, 16, device="cuda")
    fast = rooftile.compile(model)
    with torch.no_grad():
        fast(x)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            fast(x)
            torch.cuda.synchronize()
    names = {event.name for event in found.events()}
    report = explain_with(model, (x,), {}, CompileOptions())
    assert {kernel.name for kernel in report.kernels} <= names


@pytest.mark.gpu
def test_the_ranges_are_there_for_nsight(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Model().cuda(), torch.randn(64, 16, device="cuda")
    fast = rooftile.compile(model)
    pushed, record = [], torch.profiler.record_function

    def noted(name: str) -> record_function:
        pushed.append(name)
        return record(name)

    monkeypatch.setattr(torch.profiler, "record_function", noted)
    with torch.no_grad():
        fast(x)
        assert pushed == []
        with torch.autograd.profiler.emit_nvtx():
            fast(x)
    torch.cuda.synchronize()
    report = explain_with(model, (x,), {}, CompileOptions())
    assert pushed[0] == "rooftile: main"
    assert {kernel.name for kernel in report.kernels} <= {name.rpartition(": ")[2] for name in pushed}
