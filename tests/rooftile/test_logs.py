"""``ROOFTILE_DEBUG`` in a process of its own, since what it opens stays open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import torch, rooftile
with torch.no_grad():
    rooftile.compile(lambda x, y: (x @ y).relu())(torch.ones(4, 8), torch.ones(8, 4))
"""

# What each level adds to the one below.
SHOWN = {0: (), 1: ("rooftile.passes: fuse", "compiled"), 2: ("fused (cost)",), 3: ("graph main(",), 4: ("launch ",)}


@pytest.mark.parametrize("level", [0, 2, 4])
def test_each_level_adds_something(level: int) -> None:
    env = {**os.environ, "ROOFTILE_DEBUG": str(level)}
    shown = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True).stderr
    for at, texts in SHOWN.items():
        for text in texts:
            assert (text in shown) == (at <= level), f"{text!r} at level {level}:\n{shown}"
