"""Kernels that ended in a fault of the GPU while they were tried, after which nothing runs there in that process.

They are remembered in the cache folder, so that tuning once more goes past them.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from rooftile.errors import RooftileError


class Faulted(RooftileError):
    """A kernel faulted."""


def remember(folder: Path, key: str, text: str) -> None:
    """That the kernels with this key faulted; a folder that cannot be written forgets."""
    path = _path(folder, key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def is_remembered(folder: Path, key: str) -> bool:
    """Whether the kernels with this key have faulted."""
    return _path(folder, key).exists()


def _path(folder: Path, key: str) -> Path:
    return folder / "faulted" / f"{sha256(key.encode()).hexdigest()[:32]}.txt"
