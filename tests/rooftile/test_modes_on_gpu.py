"""CUDA graphs and tuning on a GPU: replays are right whatever moves, and what was measured is what is compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import rooftile
from rooftile import measured
from rooftile.checking import check
from rooftile.driver import collecting
from rooftile.ir.schedule import Schedule
from rooftile.runtime.tuning.lock import read_lock
from tests.models import BLOCKS, llama_layer

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each replay of a graph."""
    found: list[int] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        found.append(1)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return found


def layer() -> tuple[torch.nn.Module, list[torch.Tensor], list[torch.Tensor]]:
    """A layer, inputs at different addresses, and what eager makes of them."""
    model, (x,) = llama_layer(dtype=torch.float32, device="cuda")
    inputs = [torch.randn_like(x) for _ in range(5)]
    return model, inputs, [model(x) for x in inputs]


def assert_close(result: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BLOCKS)
def test_replays_keep_the_promise(name: str, replays: list[int]) -> None:
    model, inputs = BLOCKS[name](dtype=torch.bfloat16, device="cuda")
    fast = rooftile.compile(model, mode="reduce-overhead")
    for _ in range(3):
        verdicts = check(fast, model, inputs)
        assert all(v.kept for v in verdicts), [str(v) for v in verdicts]
    assert replays


def test_inputs_that_move_and_results_that_stay(replays: list[int]) -> None:
    model, inputs, wanted = layer()
    fast = rooftile.compile(model, mode="reduce-overhead")
    results = [fast(x) for x in inputs * 3]
    for result, right in zip(results, wanted * 3, strict=True):
        assert_close(result, right)
    assert len(replays) == 14


def test_a_result_is_the_next_input() -> None:
    model, inputs, _ = layer()
    fast = rooftile.compile(model, mode="reduce-overhead")
    ours = theirs = inputs[0] * 0.1
    for _ in range(4):
        ours, theirs = fast(ours), model(theirs)
    assert_close(ours, theirs)


def test_streams_wait_for_one_another() -> None:
    model, inputs, wanted = layer()
    fast = rooftile.compile(model, mode="reduce-overhead")
    for x in inputs:
        fast(x)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    results: list[torch.Tensor] = []
    for number in range(60):
        with torch.cuda.stream(streams[number % 3]):
            results.append(fast(inputs[number % 5]))
    torch.cuda.synchronize()
    for number, result in enumerate(results):
        assert_close(result, wanted[number % 5])


def test_a_call_becomes_part_of_the_users_graph(replays: list[int]) -> None:
    model, inputs, wanted = layer()
    fast = rooftile.compile(model, mode="reduce-overhead")
    x = inputs[0].clone()
    fast(x)
    fast(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = fast(x)
    x.copy_(inputs[3])
    graph.replay()
    assert_close(result, wanted[3])


def test_a_weight_that_moves_is_noticed() -> None:
    model, inputs, wanted = layer()
    fast = rooftile.compile(model, mode="reduce-overhead")
    for _ in range(3):
        assert_close(fast(inputs[0]), wanted[0])
    weight = next(p for p in model.parameters() if p.dim() == 2)
    weight.data = weight.data + 0.1
    right = model(inputs[0])
    for _ in range(3):
        assert_close(fast(inputs[0]), right)


def test_what_cannot_be_recorded_says_so_and_is_right(caplog: pytest.LogCaptureFixture) -> None:
    fast = rooftile.compile(lambda x: torch.linalg.inv(x) * 2 + 1, mode="reduce-overhead")
    x = torch.eye(8, device="cuda") * 4
    with caplog.at_level(logging.WARNING, "rooftile.graphs"):
        for _ in range(4):
            assert_close(fast(x), torch.linalg.inv(x) * 2 + 1)
    plain = rooftile.compile(lambda x: x * 2 + 1, mode="reduce-overhead")  # another graph can still be recorded
    for _ in range(3):
        assert_close(plain(x), x * 2 + 1)


def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x @ gate) * (x @ up)


def test_tuning_is_right_and_nothing_is_timed_with_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, gate, up = (torch.randn(n, 512, device="cuda", dtype=torch.bfloat16) for n in (1024, 512, 512))
    lock = tmp_path / "rooftile.lock"
    report = rooftile.tune(swiglu, x, gate, up, lock=lock, effort="quick", seconds=60)
    assert all(k.microseconds is not None and k.first_microseconds is not None for k in report.kernels)
    assert all(
        k.microseconds <= k.first_microseconds for k in report.kernels if k.microseconds and k.first_microseconds
    )
    monkeypatch.setattr(measured, "Search", lambda *_: pytest.fail("something was timed"))
    with collecting() as compilations:
        verdicts = check(_compiled(lock), swiglu, (x, gate, up))
    assert all(v.kept for v in verdicts)
    regions = [op for op in compilations[0].graph.ops if op.name == "region"]
    tiles = {tuple(f"{a.name}: {a.role} {a.tile}" for a in Schedule.from_attrs(op.attrs).axes) for op in regions}
    assert tiles == {entry.axes for entry in read_lock(lock)}


def _compiled(lock: Path) -> Callable[..., Any]:
    torch._dynamo.reset()
    compiled: Callable[..., Any] = rooftile.compile(swiglu, options={"lock": lock, "autotune": "full"})
    return compiled


def test_max_autotune_times_once_and_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replays: list[int]
) -> None:
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(tmp_path))
    x, w = (torch.randn(256, 256, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(2):
        torch._dynamo.reset()
        fast = rooftile.compile(lambda a, b: torch.relu(a @ b), mode="max-autotune")
        for _ in range(3):
            torch.testing.assert_close(fast(x, w), torch.relu(x @ w), rtol=2e-2, atol=2e-1)
        monkeypatch.setattr(measured, "entry_of", lambda *_: pytest.fail("timed again"))
    assert (tmp_path / "tuned-full.lock").is_file() and len(replays) == 4
