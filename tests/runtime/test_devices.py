"""Which target a device gives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rooftile.errors import UnsupportedError
from rooftile.runtime.devices import default_target, target_of

H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 114,
    "L2_cache_size": 50 * 2**20,
    "shared_memory_per_block_optin": 232_448,
}


def pretend(monkeypatch: pytest.MonkeyPatch, **properties: object) -> None:
    card = SimpleNamespace(**{**H100, **properties})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)


def test_the_cpu_is_a_target() -> None:
    assert target_of(torch.device("cpu")).kind == "cpu"


def test_a_cards_own_limits_replace_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    target = target_of(torch.device("cuda", 0))
    assert (target.name, target.arch, target.sm_count, target.shared_memory) == ("h100", 90, 114, 232_448)


def test_a_card_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, name="Tesla V100", major=7)
    with pytest.raises(UnsupportedError, match=r"Tesla V100 has compute capability 7\.0; 8\.0 or newer"):
        target_of(torch.device("cuda", 0))


def test_other_devices_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="not for meta"):
        target_of(torch.device("meta"))


def test_without_a_gpu_the_cpu_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_target().kind == "cpu"
