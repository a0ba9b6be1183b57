"""Our evaluator of the Triton language against Triton's own interpreter and compiler, one small kernel each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rooftile.runtime.build import compile_kernel
from rooftile.runtime.launch import CpuLauncher
from tests.runtime.language_cases import CASES, arguments

ROOT = Path(__file__).parents[2]
# Where Triton's interpreter differs from what its compiler gives; checked in test_language_rules.
INTERPRETER_IS_WRONG = {"maximum_drops_nan"}


@pytest.fixture(scope="module")
def by_triton(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What Triton's interpreter wrote, from a process of its own: it is chosen when Triton is imported."""
    path = tmp_path_factory.mktemp("triton") / "results.pt"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.runtime.language_cases", str(path)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=240)
    results: dict[str, tuple[torch.Tensor, torch.Tensor]] = torch.load(path)
    return results


@pytest.mark.parametrize("name", [name for name in CASES if name not in INTERPRETER_IS_WRONG])
def test_same_as_tritons_interpreter(name: str, by_triton: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    tensors = arguments()
    CpuLauncher(CASES[name])((1,), tensors)
    out, whole = by_triton[name]
    torch.testing.assert_close(tensors[2], out, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert torch.equal(tensors[3], whole)
    assert tensors[2].any() or tensors[3].any()


@pytest.mark.parametrize("name", CASES)
def test_tritons_compiler_takes_the_same_text(name: str) -> None:
    assert compile_kernel(CASES[name], 90).resources.registers > 0
