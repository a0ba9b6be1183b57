"""The demo: the block is what it says, and what it prints is there."""

from __future__ import annotations

from pathlib import Path

import torch
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.demo import demonstrate
from rooftile.textbook import ON_CPU, block_and_input

CPU = torch.device("cpu")


def test_the_demo_keeps_the_promise_and_explains_itself(tmp_path: Path) -> None:
    found = demonstrate(tmp_path, CPU)
    assert found.accuracy.kept
    assert found.report.totals.kernels >= 1 and all(k.kind == "triton" for k in found.report.kernels)
    assert isinstance(found.report.totals.bytes, int) and isinstance(found.report.totals.eager_bytes, int)
    assert found.report.totals.bytes < found.report.totals.eager_bytes
    assert (tmp_path / "repro.py").is_file()


def test_the_command_shows_all_of_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--dump", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    for part in ("Kernels, in order", "Decisions", "Bytes moved", "Error against float64", "kept", str(tmp_path)):
        assert part in result.stdout


def test_the_block_is_the_same_every_time_and_leaves_randomness_alone() -> None:
    before = torch.get_rng_state()
    first, x = block_and_input(ON_CPU, CPU)
    second, y = block_and_input(ON_CPU, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, y) and torch.equal(first(x), second(y))


def test_the_block_attends_to_the_past_only() -> None:
    block, x = block_and_input(ON_CPU, CPU)
    changed = x.clone()
    changed[:, 20:] += 1
    assert torch.equal(block(x)[:, :20], block(changed)[:, :20])
