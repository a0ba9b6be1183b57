"""Two processes compile the same model for an H100 at once: the same kernels in both, and one whole cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rooftile.runtime.cache import KernelCache

CODE = """
import hashlib, sys
from pathlib import Path
import torch
import rooftile
from rooftile.driver import collecting
from rooftile.runtime.cache import KernelCache
from rooftile.target import H100

torch.manual_seed(0)
layers = torch.nn.LayerNorm(64), torch.nn.Linear(64, 512), torch.nn.GELU(), torch.nn.Linear(512, 512)
model = torch.nn.Sequential(*layers)
model = model.to(torch.bfloat16).eval()
x = torch.randn(4, 32, 64, dtype=torch.bfloat16)
with collecting() as compilations:
    rooftile.compile(model, options={"target": "h100"})(x)
kernels = list(dict.fromkeys(compilations[0].kernels.values()))
built = KernelCache(Path(sys.argv[1])).get_or_build_all(kernels, H100, 2)
print(*(hashlib.sha256(binary.cubin).hexdigest() for binary in built))
"""


def test_two_processes_compile_the_same_model_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    first, second = (out.split() for out, _ in outputs)
    assert first == second
    assert len(set(first)) > 1
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert again == first
    assert len(KernelCache(tmp_path).entries()) == len(set(first))
