"""Every example runs, as it does from a shell; each asserts its own results."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rooftile.extending import registered

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What an example registers is gone after it."""
    torch._dynamo.reset()
    with registered():
        yield


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / name), run_name="__main__")
    assert capsys.readouterr().out, "an example shows something"


def test_the_examples_say_how_to_run_them() -> None:
    silent = [name for name in EXAMPLES if f"python examples/{name}" not in (FOLDER / name).read_text()]
    assert silent == []
