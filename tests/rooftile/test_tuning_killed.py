"""Tuning that is killed at any moment leaves a lock file and a cache of kernels that are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rooftile.runtime.archive import unpack
from rooftile.runtime.tuning.lock import read_lock

# Candidates for an H100 are compiled into the cache, side by side, and the CPU's are timed and locked. A process that
# has imported all that forks, and kills its child after a while that grows from round to round.
CODE = """
import json, os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
import rooftile
from rooftile.config import Config
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.runtime.tuning.clocks import WallClock
from rooftile.runtime.tuning.search import Effort, Search
from rooftile.target import H100
from tests.regions import matmul, meta, regions

lock, rounds = Path(sys.argv[1]), int(sys.argv[2])
models = [lambda x, w: torch.relu(x @ w), lambda x: torch.softmax(x, -1), lambda x: (x * x).mean(-1)]
inputs = [(torch.randn(32, 16), torch.randn(16, 24)), (torch.randn(8, 40),), (torch.randn(8, 33),)]
ops = regions(matmul, (meta(256, 128), meta(128, 256)), "h100")

def tuned():
    search = Search(H100, torch.device("cpu"), Config.from_env(), EXACT_FP32, Effort(6, 60.0), WallClock())
    units = [search._unit(op, {}) for op in ops]
    with ThreadPoolExecutor(2) as pool:
        search._ask(units, pool)
        search._ask(units, pool)
    for model, given in zip(models, inputs):
        rooftile.tune(model, *given, lock=lock, effort="quick", seconds=5.0)

seen = []
for number in range(rounds):
    child = os.fork()
    if child == 0:
        tuned()
        os._exit(0)
    time.sleep(0.4 * (number + 1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.append(len(lock.read_text().split("[[kernel]]")) - 1 if lock.exists() else 0)
    print(json.dumps(seen), flush=True)
tuned()
"""


def test_whenever_it_is_killed_what_is_there_is_whole(tmp_path: Path) -> None:
    lock, cache = tmp_path / "rooftile.lock", tmp_path / "cache"
    environment = {"ROOFTILE_CACHE_DIR": str(cache), "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    run = [sys.executable, "-c", CODE, str(lock), "5"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == sorted(seen)  # what was found before is still there, and every text between parsed
    assert len(read_lock(lock)) == 3
    kernels = list(cache.glob("*/*.kernel.zip"))
    assert kernels and all(unpack(kernel.read_bytes()).cubin for kernel in kernels)
