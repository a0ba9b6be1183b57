"""A program that is made at the first call: once, and by whoever comes first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from rooftile.compilation import Runnable
from rooftile.config import CompileOptions
from rooftile.driver import build_program, collecting
from rooftile.errors import InternalError
from rooftile.first_call import Built
from rooftile.later import Later
from rooftile.plans import Plans
from rooftile.runtime.build import CompileError
from rooftile.standins import Evaluated
from rooftile.target import H100
from tests.rooftile.test_driver import attention_like

Program = Callable[[Sequence[torch.Tensor], Any], list[torch.Tensor]]


def test_it_is_made_once_by_all_threads() -> None:
    made: list[int] = []

    def make() -> Runnable:
        made.append(1)
        time.sleep(0.05)
        return lambda tensors, sizes: [tensors[0] + 1]

    later = Later(make)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda n: later([torch.tensor(n)], {}), range(4)):
            assert found[0] > 0
    assert made == [1]


def test_what_goes_wrong_is_told_at_every_call() -> None:
    def make() -> Runnable:
        raise CompileError("too large")

    later = Later(make)
    for _ in range(2):
        with pytest.raises(CompileError, match="too large"):
            later([], {})


def test_first_calls_of_several_threads_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(Built, "_tell", lambda *_: (told.append(1), time.sleep(0.05)))
    together = Barrier(4)

    def program(tensors: Sequence[torch.Tensor], _: Any) -> list[torch.Tensor]:
        together.wait()
        return list(tensors)

    compilation: Any = object()
    built = Built(compilation, program, looked_at=False, timed=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: built([torch.ones(1)], {}), range(4)))
    assert told == [1]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs for an H100 are loaded as if one were here; what happens, in order."""
    happened: list[str] = []
    graph = attention_like()

    def loaded(*_: object) -> Runnable:
        happened.append("loaded")
        return Evaluated(graph)

    monkeypatch.setattr(Plans, "begin", lambda *_: happened.append("begun"))
    monkeypatch.setattr(Plans, "loaded", loaded)
    monkeypatch.setattr("rooftile.driver._target_of", lambda _: H100)
    return happened


def program(wait: bool) -> Any:
    return build_program(attention_like(), CompileOptions(), torch.device("cuda", 0), wait=wait)


def test_kernels_are_begun_at_once_and_waited_for_at_the_first_call(as_on_a_gpu: list[str]) -> None:
    with collecting() as found:
        built = program(wait=False)
    assert as_on_a_gpu == ["begun"] and "build" not in found[0].seconds
    for _ in range(2):
        built([torch.randn(2, 12, 16), torch.randn(16, 16)], {})
    assert as_on_a_gpu == ["begun", "loaded"] and found[0].seconds["build"] >= 0


def test_who_waits_gets_a_program_that_is_loaded(as_on_a_gpu: list[str]) -> None:
    program(wait=True)
    assert as_on_a_gpu == ["loaded"]


def test_a_kernel_that_is_refused_late_leaves_a_repro(as_on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Runnable:
        raise CompileError("refused")

    monkeypatch.setattr(Plans, "loaded", refuse)
    built = program(wait=False)
    with pytest.raises(InternalError, match="refused") as error:
        built([torch.randn(2, 12, 16), torch.randn(16, 16)], {})
    assert Path(error.value.repro).name == "repro.py"
