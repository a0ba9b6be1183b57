"""Compiling pauses the garbage collector, and leaves it as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
import torch

import rooftile
from rooftile import backend
from rooftile.collection import no_collections


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


def test_collections_go_on_behind_the_block_also_where_it_fails() -> None:
    with pytest.raises(ValueError, match="inside"), no_collections():
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled()


def test_who_has_no_collections_gets_none() -> None:
    gc.disable()
    with no_collections():
        pass
    assert not gc.isenabled()


def test_the_last_of_several_threads_lets_them_go_on() -> None:
    entered, leave = Event(), Event()

    def other() -> None:
        with no_collections():
            entered.set()
            leave.wait(10)

    thread = Thread(target=other)
    thread.start()
    entered.wait(10)
    with no_collections():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_a_model_is_compiled_without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    build = backend.build_program

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(gc.isenabled())
        return build(*args, **kwargs)

    monkeypatch.setattr(backend, "build_program", noted)
    rooftile.compile(lambda x: x + 1)(torch.ones(3))
    assert seen == [False] and gc.isenabled()
