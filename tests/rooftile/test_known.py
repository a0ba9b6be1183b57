"""The process that compiles is started early only for a graph that was not compiled here before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rooftile import backend
from rooftile.backend import Backend
from rooftile.config import CompileOptions
from rooftile.errors import UnsupportedError
from rooftile.known import KnownGraph
from rooftile.runtime.cache import KernelCache

OPTIONS = CompileOptions()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(tmp_path))
    return tmp_path


def traced(*layers: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(nn.Sequential(*layers))


def test_a_graph_is_known_by_its_ops_its_inputs_and_the_options() -> None:
    graph, x = traced(nn.ReLU(), nn.Tanh()), torch.ones(2, 3)
    KnownGraph.of(graph, [x], OPTIONS).remember()
    assert KnownGraph.of(traced(nn.ReLU(), nn.Tanh()), [torch.zeros(2, 3)], OPTIONS).is_known()
    others: list[tuple[fx.GraphModule, Sequence[Any], CompileOptions]] = [
        (traced(nn.ReLU()), [x], OPTIONS),
        (graph, [x.T], OPTIONS),
        (graph, [x.half()], OPTIONS),
        (graph, [x, 3], OPTIONS),
        (graph, [x], CompileOptions(mode="reduce-overhead")),
    ]
    assert not any(KnownGraph.of(*other).is_known() for other in others)


def test_a_cache_that_is_cleared_knows_no_graph(folder: Path) -> None:
    known = KnownGraph.of(traced(nn.ReLU()), [torch.ones(2)], OPTIONS)
    known.remember()
    assert known.is_known() and KernelCache(folder).entries() == []
    KernelCache(folder).clear()
    assert not known.is_known()


def test_where_nothing_can_be_written_nothing_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(folder / "file"))
    known = KnownGraph.of(traced(nn.ReLU()), [torch.ones(2)], OPTIONS)
    known.remember()
    assert not known.is_known()


CODE = """
import torch
from rooftile import backend
from rooftile.known import KnownGraph
from rooftile.textbook import ON_CPU, block_and_input

def seen(module, given):
    print(KnownGraph.of(module, given, backend.CompileOptions()).file.name)
    return module

block, x = block_and_input(ON_CPU, torch.device("cpu"))
torch.compile(block, backend=seen)(x)
"""


def test_two_processes_know_the_same_graph() -> None:
    runs = [subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (run.stdout for run in runs)
    assert first == second != ""


class Client:
    starts = 0

    def start(self) -> None:
        self.starts += 1


def test_the_process_is_started_once_for_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    client, graph = Client(), traced(nn.ReLU())
    monkeypatch.setattr(backend, "compile_client", lambda: client)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(backend, "capture_dynamo", lambda module, given: None)
    monkeypatch.setattr(backend, "why_again", lambda: "")

    def unsupported(*given: Any, **named: Any) -> Any:
        raise UnsupportedError("not this one")

    with FakeTensorMode():
        x = torch.empty(2, 3, device="cuda")
    monkeypatch.setattr(backend, "compile_captured", unsupported)
    Backend(OPTIONS)(graph, [x])  # which is not remembered: nothing was compiled
    monkeypatch.setattr(backend, "compile_captured", lambda *given, **named: unsupported)
    for starts in (2, 2):
        Backend(OPTIONS)(graph, [x])
        assert client.starts == starts
    Backend(OPTIONS)(graph, [torch.ones(2, 3)])
    assert client.starts == 2  # the CPU needs no compiler
